//! Locations and patterns as users write them, and listings as stores give them. There is no feature yet that opens
//! files named by a column; when there is, its paths belong here.

use floe::error::ErrorKind;
use floe::plan::list::select;
use floe::storage::{Listed, Location, overlap};

/// A pattern, the output's path, then paths of a listing, one a line; the pattern is also taken for a location.
pub fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let mut lines = text.split('\n');
    let pattern = lines.next().unwrap_or_default();
    let output = lines.next().filter(|output| !output.is_empty());
    open(pattern, output.unwrap_or("out"));
    let object = |path: &str| Listed {
        path: path.into(),
        size: 1,
        etag: None,
        modified: String::new(),
    };
    let listed: Vec<Listed> = lines.map(object).collect();
    let paths: Vec<String> = listed.iter().map(|listed| listed.path.clone()).collect();
    match select(listed, Some(pattern), output) {
        Ok(selection) => {
            let chosen: Vec<&str> = selection.files.iter().map(|file| file.path.as_str()).collect();
            assert!(
                chosen.is_sorted_by(|a, b| a.as_bytes() < b.as_bytes()),
                "{chosen:?}"
            );
            for path in chosen {
                assert!(paths.iter().any(|listed| listed == path));
                assert!(
                    !path.split('/').any(|name| name.starts_with('.')),
                    "{path:?} is hidden"
                );
                let own = output.and_then(|output| path.strip_prefix(output));
                assert!(
                    !own.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
                    "{path:?} is output"
                );
            }
        }
        Err(error) => assert!(
            matches!(error.kind(), ErrorKind::Config | ErrorKind::Data),
            "{error}"
        ),
    }
}

fn open(input: &str, output: &str) {
    let (Ok(input), Ok(output)) = (Location::local(input), Location::local(output)) else {
        return;
    };
    for location in [&input, &output] {
        let path = location.local_path().expect("only local files are in this build");
        assert!(path.is_absolute());
    }
    let _ = overlap(&input, &output);
}

pub fn seeds() -> Vec<Vec<u8>> {
    [
        "**/*.parquet\nout\na.parquet\nb/c.parquet\nout/d.parquet\n_x/e.parquet\n.f\n_k=1/g.parquet",
        "{a,b}[0-9]*?.parquet\n\na1x.parquet\na1x.parquet\n../b2y.parquet\n//x",
        "file:///a/../b%20c\n../out\n",
        "s3://user:secret@host/k?sig=x\n@stage/x\n",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect()
}
