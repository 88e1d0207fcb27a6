//! Names: every key that the commit protocol stores, made and read back in one place.
//!
//! A name that parses is exactly a name that was made here: each parser renders what it found again and compares.
//! Keys are relative to the output folder and use `/`. See `docs/commit-protocol.md` for the picture.

use xxhash_rust::xxh3::xxh3_64;

use super::record::Checksum;

/// The folder of the protocol's own objects: JSON only, never Parquet.
pub const STATE: &str = "_floe";
/// The marker: present if and only if every row is in the output exactly once.
pub const MARKER: &str = "_SUCCESS";
/// The folder of epochs. A folder of its own, so that listing the epochs doesn't list every record as well.
pub const EPOCHS: &str = "_floe/epochs";

/// No epoch is higher: eight digits, so that names sort as numbers do.
pub const MAX_EPOCH: u64 = 99_999_999;

/// Where epoch `epoch` is claimed and its plan pinned, in one object.
pub fn epoch_key(epoch: u64) -> String {
    format!("{EPOCHS}/{epoch:08}.json")
}

/// The epoch that `key` claims, if it is such a key.
pub fn parse_epoch_key(key: &str) -> Option<u64> {
    let digits = key
        .strip_prefix(EPOCHS)?
        .strip_prefix('/')?
        .strip_suffix(".json")?;
    let epoch = number(digits)?;
    ((1..=MAX_EPOCH).contains(&epoch) && epoch_key(epoch) == key).then_some(epoch)
}

/// Says that old output has been cleared for epoch `epoch`.
pub fn prepared_key(epoch: u64) -> String {
    format!("{STATE}/e{epoch}/prepared")
}

/// The folder of epoch `epoch`'s commit records.
pub fn records_folder(epoch: u64) -> String {
    format!("{STATE}/e{epoch}/c")
}

/// Everything of epoch `epoch` but the claim itself: records, notes, `prepared`.
pub fn epoch_folder(epoch: u64) -> String {
    format!("{STATE}/e{epoch}")
}

/// What replicas tell each other beside the records; see [`notes`](super::notes).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Note {
    /// A process of this replica begins.
    Start {
        /// Its index.
        replica: u32,
    },
    /// A replica that has been started before takes a unit of its own.
    Try {
        /// The unit.
        unit: u32,
        /// The replica's index.
        replica: u32,
    },
    /// A replica takes a unit that isn't its own.
    Help {
        /// The unit.
        unit: u32,
    },
}

impl Note {
    /// The key of the `nth` such note, from 0, in epoch `epoch`.
    pub fn key(self, nth: u32, epoch: u64) -> String {
        let folder = format!("{STATE}/e{epoch}/notes");
        match self {
            Note::Start { replica } => format!("{folder}/start-{replica}.{nth}"),
            Note::Try { unit, replica } => format!("{folder}/try-{unit:06}-{replica}.{nth}"),
            Note::Help { unit } => format!("{folder}/help-{unit:06}.{nth}"),
        }
    }

    /// Reads a key of epoch `epoch` back: the note and which of its kind.
    pub fn parse(key: &str, epoch: u64) -> Option<(Note, u32)> {
        let small = |digits: &str| u32::try_from(number(digits)?).ok();
        let text = key.strip_prefix(&epoch_folder(epoch))?.strip_prefix("/notes/")?;
        let (name, nth) = text.split_once('.')?;
        let nth = small(nth)?;
        let mut fields = name.split('-');
        let note = match fields.next()? {
            "start" => Note::Start {
                replica: small(fields.next()?)?,
            },
            "try" => Note::Try {
                unit: small(fields.next()?)?,
                replica: small(fields.next()?)?,
            },
            "help" => Note::Help {
                unit: small(fields.next()?)?,
            },
            _ => return None,
        };
        (note.key(nth, epoch) == key).then_some((note, nth))
    }
}

/// An object that only tests what the store can do.
pub fn probe_key(token: &str) -> String {
    format!("{STATE}/probe-{token}")
}

/// Whether `key` belongs to the protocol itself.
pub fn is_state(key: &str) -> bool {
    key.strip_prefix(STATE)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether `key` was written by run `run_id`, or is state or marker of whichever run. A probe is nobody's but the
/// process's that is just starting: unlike the others' creates, it does not survive that somebody sweeps up its file.
pub fn is_of_run(key: &str, run_id: &str) -> bool {
    let data = DataName::parse(key).is_some_and(|name| name.run == RunTag::of(run_id));
    let is_probe = key.starts_with(&probe_key(""));
    data || (is_state(key) && !is_probe) || key == MARKER
}

/// Whether somebody who reads the output folder might take `key` for data: everything but the protocol's own
/// objects, the marker, and hidden files such as `.DS_Store` or `.nfs0001` that no reader opens.
pub fn may_be_data(key: &str) -> bool {
    let hidden = key.split('/').any(|segment| segment.starts_with('.'));
    let parquet = key.to_ascii_lowercase().ends_with(".parquet");
    !is_state(key) && key != MARKER && (!hidden || parquet)
}

/// A run's short name in its data files: it keeps two runs from ever sharing a data name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunTag(u32);

impl RunTag {
    /// The tag of a run: the upper 32 bits of its id's hash.
    pub fn of(run_id: &str) -> RunTag {
        RunTag((xxh3_64(run_id.as_bytes()) >> 32) as u32)
    }
}

impl std::fmt::Display for RunTag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// A data object: it depends on run, unit and partition only, so that whoever computes a unit stores it under the
/// same name and the first one wins.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DataName {
    /// Partition folders (`a=1/b=2`), or empty.
    pub folder: String,
    /// The unit.
    pub unit: u32,
    /// The run.
    pub run: RunTag,
}

impl DataName {
    /// The object's key.
    pub fn key(&self) -> String {
        let slash = if self.folder.is_empty() { "" } else { "/" };
        let (folder, unit, run) = (&self.folder, self.unit, self.run);
        format!("{folder}{slash}part-{unit:06}-{run}.parquet")
    }

    /// Reads a key back.
    pub fn parse(key: &str) -> Option<DataName> {
        let (folder, file) = key.rsplit_once('/').unwrap_or(("", key));
        let stem = file.strip_prefix("part-")?.strip_suffix(".parquet")?;
        let (unit, run) = stem.split_once('-')?;
        let name = DataName {
            folder: folder.to_string(),
            unit: number(unit)?.try_into().ok()?,
            run: RunTag(u32::from_str_radix(run, 16).ok()?),
        };
        (name.key() == key).then_some(name)
    }
}

/// The key of a unit's data object; `folder` names its partition (`""` without partitions).
pub fn data_key(folder: &str, unit: u32, run_id: &str) -> String {
    DataName {
        folder: folder.to_string(),
        unit,
        run: RunTag::of(run_id),
    }
    .key()
}

/// A plan's short name in its records: units that were committed under two plans show in one listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PlanTag(u64);

impl PlanTag {
    /// The tag of the plan with this digest.
    pub fn of(plan_digest: &str) -> PlanTag {
        PlanTag(xxh3_64(plan_digest.as_bytes()))
    }
}

impl std::fmt::Display for PlanTag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A commit record's name. It carries the facts, so that one listing decides everything and a record can't be torn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RecordName {
    /// The unit.
    pub unit: u32,
    /// Rows of its objects.
    pub rows: u64,
    /// Bytes of its objects.
    pub bytes: u64,
    /// How many objects.
    pub files: u32,
    /// The plan that the unit is a part of.
    pub plan: PlanTag,
    /// What the objects hold.
    pub seal: Seal,
}

/// What a record's name says about the objects' content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Seal {
    /// No object: the unit has no rows.
    Nothing,
    /// The checksum of the one object, stored under the unit's plain name.
    Object(Checksum),
    /// The checksum of the list of objects in the record's body (partitioned output).
    List(Checksum),
}

impl RecordName {
    /// The record's key in epoch `epoch`.
    pub fn key(&self, epoch: u64) -> String {
        format!("{}/{self}", records_folder(epoch))
    }

    /// Reads a key of epoch `epoch` back.
    pub fn parse(key: &str, epoch: u64) -> Option<RecordName> {
        let text = key.strip_prefix(&records_folder(epoch))?.strip_prefix('/')?;
        let mut fields = text.split('.');
        let mut field = |letter: &str| number(fields.next()?.strip_prefix(letter)?);
        let (unit, rows, bytes, files) = (field("")?, field("r")?, field("b")?, field("f")?);
        let plan = fields.next()?.strip_prefix('p')?;
        let seal = match fields.next() {
            None => Seal::Nothing,
            Some(sum) if sum.starts_with('x') => Seal::Object(Checksum::from_hex(&sum[1..])?),
            Some(sum) if sum.starts_with('l') => Seal::List(Checksum::from_hex(&sum[1..])?),
            Some(_) => return None,
        };
        let name = RecordName {
            unit: unit.try_into().ok()?,
            rows,
            bytes,
            files: files.try_into().ok()?,
            plan: PlanTag(u64::from_str_radix(plan, 16).ok()?),
            seal,
        };
        let sealed_count = match seal {
            Seal::Nothing => (rows, bytes, files) == (0, 0, 0),
            Seal::Object(_) => files == 1,
            Seal::List(_) => files > 0,
        };
        (sealed_count && name.to_string() == text).then_some(name)
    }
}

impl std::fmt::Display for RecordName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let RecordName {
            unit,
            rows,
            bytes,
            files,
            plan,
            seal,
        } = self;
        write!(f, "{unit:06}.r{rows}.b{bytes}.f{files}.p{plan}")?;
        match seal {
            Seal::Nothing => Ok(()),
            Seal::Object(sum) => write!(f, ".x{}", sum.hex()),
            Seal::List(sum) => write!(f, ".l{}", sum.hex()),
        }
    }
}

/// Digits only: `parse` alone would take a sign as well.
fn number(digits: &str) -> Option<u64> {
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seals() -> impl Strategy<Value = (u64, u64, u32, Seal)> {
        prop_oneof![
            Just((0, 0, 0, Seal::Nothing)),
            (any::<u64>(), any::<u64>(), any::<u128>()).prop_map(|(rows, bytes, sum)| (
                rows,
                bytes,
                1,
                Seal::Object(Checksum(sum))
            )),
            (any::<u64>(), any::<u64>(), 1..u32::MAX, any::<u128>()).prop_map(|(rows, bytes, files, sum)| (
                rows,
                bytes,
                files,
                Seal::List(Checksum(sum))
            )),
        ]
    }

    proptest! {
        #[test]
        fn a_record_name_reads_back_as_what_was_written(
            unit: u32, epoch in 1u64.., plan: u64, (rows, bytes, files, seal) in seals(),
        ) {
            let name = RecordName { unit, rows, bytes, files, plan: PlanTag(plan), seal };
            let key = name.key(epoch);
            prop_assert_eq!(RecordName::parse(&key, epoch), Some(name));
            prop_assert_eq!(RecordName::parse(&key, epoch ^ 1), None, "another epoch's record");
        }

        #[test]
        fn a_data_name_reads_back_as_what_was_written(
            folder in "([A-Za-z0-9%=_ -]{1,8}(/[A-Za-z0-9%=_ -]{1,8}){0,2})?", unit: u32, run: u32,
        ) {
            let name = DataName { folder, unit, run: RunTag(run) };
            prop_assert_eq!(DataName::parse(&name.key()), Some(name));
        }

        #[test]
        fn a_note_reads_back_as_what_was_written(epoch in 1..=MAX_EPOCH, unit: u32, replica: u32, nth: u32) {
            for note in [Note::Start { replica }, Note::Try { unit, replica }, Note::Help { unit }] {
                let key = note.key(nth, epoch);
                prop_assert_eq!(Note::parse(&key, epoch), Some((note, nth)));
                prop_assert_eq!(Note::parse(&key, epoch ^ 1), None, "another epoch's note");
                prop_assert_eq!(Note::parse(&format!("{key}#1"), epoch), None);
            }
        }

        #[test]
        fn an_epoch_key_reads_back_as_what_was_written(epoch in 1..=MAX_EPOCH) {
            prop_assert_eq!(parse_epoch_key(&epoch_key(epoch)), Some(epoch));
        }

        #[test]
        fn no_text_is_read_as_a_name_that_would_be_written_differently(text in "[0-9.rbfpxl+-]{0,60}") {
            let key = format!("_floe/e1/c/{text}");
            if let Some(name) = RecordName::parse(&key, 1) {
                prop_assert_eq!(name.key(1), key);
            }
        }
    }

    #[test]
    fn names_look_as_documented() {
        let sum = Checksum(0xabc);
        let record = RecordName {
            unit: 7,
            rows: 10,
            bytes: 99,
            files: 1,
            plan: PlanTag(0xdef),
            seal: Seal::Object(sum),
        };
        assert_eq!(
            record.key(3),
            "_floe/e3/c/000007.r10.b99.f1.p0000000000000def.x00000000000000000000000000000abc"
        );
        assert_eq!(epoch_key(3), "_floe/epochs/00000003.json");
        assert_eq!(prepared_key(3), "_floe/e3/prepared");
        let tag = RunTag::of("run");
        assert_eq!(tag.to_string().len(), 8);
        assert_eq!(data_key("", 7, "run"), format!("part-000007-{tag}.parquet"));
        assert_eq!(
            data_key("a=1", 7, "run"),
            format!("a=1/part-000007-{tag}.parquet")
        );
    }

    #[test]
    fn near_misses_are_not_names() {
        let (plan, zeros) = ("p0123456789abcdef", "0".repeat(32));
        for text in [
            format!("7.r1.b1.f1.{plan}.x{zeros}"),
            format!("000007.r01.b1.f1.{plan}.x{zeros}"),
            format!("000007.r+1.b1.f1.{plan}.x{zeros}"),
            format!("000007.r1.b1.f1.{plan}.xA{}", &zeros[1..]),
            format!("000007.r1.b1.f2.{plan}.x{zeros}"),
            format!("000007.r1.b1.f0.{plan}"),
            format!("000007.r1.b1.f1.{plan}"),
            format!("000007.r1.b1.f1.{plan}.x{zeros}.x"),
            format!("000007.r1.b1.f1.{plan}.x"),
            format!("000007.r1.b1.f1.x{zeros}"),
            format!("000007.r1.b1.f1.p123.x{zeros}"),
            format!("000007.r1.b1.f1.p0123456789ABCDEF.x{zeros}"),
        ] {
            assert_eq!(
                RecordName::parse(&format!("_floe/e1/c/{text}"), 1),
                None,
                "{text}"
            );
        }
        let good = format!("_floe/e1/c/000007.r1.b1.f1.{plan}.x{zeros}");
        assert!(
            RecordName::parse(&good, 1).is_some(),
            "what the others nearly are"
        );
        for key in [
            "part-1-00000000.parquet",
            "part-000001-0000000G.parquet",
            "part-000001-00000000.parquet#1",
        ] {
            assert_eq!(DataName::parse(key), None, "{key}");
        }
        for key in [
            "_floe/epochs/1.json",
            "_floe/epochs/00000000.json",
            "_floe/epochs/00000001.json#2",
            "_floe/epochs/100000000.json",
        ] {
            assert_eq!(parse_epoch_key(key), None, "{key}");
        }
    }

    #[test]
    fn a_runs_own_keys_are_its_data_and_the_protocols_objects() {
        for (key, expected) in [
            (data_key("", 1, "run"), true),
            (data_key("a=1", 1, "run"), true),
            (data_key("", 1, "other"), false),
            ("part-000001.parquet".into(), false),
            (epoch_key(1), true),
            (MARKER.into(), true),
            (probe_key("token"), false),
        ] {
            assert_eq!(is_of_run(&key, "run"), expected, "{key}");
        }
    }

    #[test]
    fn only_what_a_reader_could_open_may_be_data() {
        for (key, expected) in [
            ("part-000000-00000000.parquet", true),
            ("_temporary/x.parquet", true),
            (".hidden.parquet", true),
            ("notes.txt", true),
            ("_floes/a", true),
            ("_floe/epochs/00000001.json", false),
            ("_SUCCESS", false),
            ("a=1/_SUCCESS", true),
            (".DS_Store", false),
            ("a=1/.nfs0001", false),
        ] {
            assert_eq!(may_be_data(key), expected, "{key}");
        }
    }
}
