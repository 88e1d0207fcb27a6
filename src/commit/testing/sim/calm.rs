//! After the storm: everybody gets to the end of his work, and the output is judged as a whole.

use super::*;

impl Sim {
    /// The weather clears up; the user removes what is not Floe's; whoever has not ended well is started again. Then
    /// the output is as if nothing had happened.
    pub fn settle(&mut self) -> Result<(), String> {
        self.weather = Weather::Random(0);
        self.scenario.operations = usize::MAX;
        self.scenario.redeployed = None;
        self.scenario.stranger_at = None;
        self.scenario.grows_at = None;
        if self.rng.in_thousand(500) {
            self.all_arrive()?;
        }
        self.objects.0.remove(STRANGER);
        for who in 0..self.lives.len() {
            if !matches!(self.lives[who].end, Some(Ok(_))) && !self.is_beaten(who) {
                self.dies(who)?;
            }
        }
        let enough = self.played.operations + 20_000;
        while self.lives.iter().any(|life| life.end.is_none()) {
            self.turn()?;
            if self.played.operations > enough {
                return Err("I2: the processes never end".into());
            }
        }
        if let Some(who) = (0..self.lives.len()).find(|who| !matches!(self.lives[*who].end, Some(Ok(_))))
            && !self.scenario.is_lost()
        {
            return Err(format!(
                "I2: process {who} ends with {:?} in calm weather",
                self.lives[who].end
            ));
        }
        self.all_arrive()?;
        self.check_end()
    }

    /// Whether a rival, or what the mode protects, has ended it for good.
    fn is_beaten(&self, who: usize) -> bool {
        let kind = |end: &Result<Finished>| end.as_ref().err().map(crate::error::Error::kind);
        let ended = self.lives[who].end.as_ref().and_then(kind);
        self.scenario.is_lost() && matches!(ended, Some(ErrorKind::NotEmpty | ErrorKind::Superseded))
    }

    fn check_end(&mut self) -> Result<(), String> {
        self.view().check()?;
        if self.scenario.rivals {
            return Ok(());
        }
        if self.scenario.protected {
            let same = self.objects == self.scenario.before.objects();
            return same
                .then_some(())
                .ok_or("I9: a refusal changed the output".into());
        }
        if !self.objects.0.contains_key(MARKER) {
            // A deletion of the old marker that was on its way for long may have hit the new one. Then the run is
            // started again, and that puts nothing back but the marker.
            let before = self.objects.clone();
            self.dies(0)?;
            while self.lives[0].end.is_none() {
                self.turn()?;
            }
            let why = || format!("I2: no marker, and a restart ends with {:?}", self.lives[0].end);
            let marker = self.objects.0.remove(MARKER).ok_or_else(why)?;
            if self.objects != before && self.is_sound {
                return Err("I2: the restart had to do more than to write the marker".into());
            }
            self.objects.0.insert(MARKER.into(), marker);
        }
        let words: Vec<String> = self
            .lives
            .iter()
            .map(|life| life.role.start.word.clone())
            .collect();
        let mut models: Vec<&str> = words.iter().map(String::as_str).collect();
        models.extend(["row", "other"].iter().filter(|_| self.scenario.unlike));
        self.view().check_end(RUN_ID, &models)?;
        let store = MapStore(Mutex::new(self.objects.clone()));
        let report = block_on(verify(&store, verify::Depth::Contents(&count_rows)))
            .map_err(|error| format!("I1: verify: {error}"))?;
        report
            .ok
            .then_some(())
            .ok_or(format!("I1: verify finds {:?}", report.problems))
    }
}
