//! Whether one location lies inside another, as far as their text tells.
//!
//! An output inside the input would be read by the next run; an input or a model inside the output would be cleared
//! by `mode: overwrite`. Symbolic links and relative paths need the machine: the job looks again with canonical
//! paths before it starts.

/// How two locations lie to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nesting {
    /// Neither holds the other, or the text does not tell.
    Apart,
    /// The same place.
    Same,
    /// The first lies inside the second.
    Inside,
    /// The first holds the second.
    Around,
}

/// How `first` lies to `second`.
pub fn nesting(first: &str, second: &str) -> Nesting {
    let (first, second) = (Place::of(first), Place::of(second));
    if first.root != second.root {
        return Nesting::Apart;
    }
    let shared = first.names.iter().zip(&second.names);
    if shared.clone().any(|(a, b)| a != b) {
        return Nesting::Apart;
    }
    match first.names.len().cmp(&second.names.len()) {
        std::cmp::Ordering::Equal => Nesting::Same,
        std::cmp::Ordering::Greater => Nesting::Inside,
        std::cmp::Ordering::Less => Nesting::Around,
    }
}

/// `base/name`, with exactly one slash between them.
pub fn below(base: &str, name: &str) -> String {
    // A stage may stand in single quotes as a whole: the name goes inside.
    let (base, quote) = match base.strip_suffix('\'') {
        Some(inner) if base.starts_with("'@") => (inner, "'"),
        _ => (base, ""),
    };
    let base = base.trim_end_matches('/');
    format!("{base}/{name}{quote}")
}

/// A location as a message may repeat it: without the keys and passwords that a URL can carry.
pub fn shown(location: &str) -> String {
    let Some((scheme, rest)) = location.split_once("://") else {
        return location.to_string();
    };
    let (rest, query) = match rest.find(['?', '#']) {
        Some(at) => (&rest[..at], "?…"),
        None => (rest, ""),
    };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = host.rsplit('@').next().unwrap_or(host);
    format!("{scheme}://{host}{path}{query}")
}

/// A location cut into what must be equal and the names of its path.
struct Place {
    root: String,
    names: Vec<String>,
}

impl Place {
    fn of(location: &str) -> Place {
        let location = location.trim();
        if let Some(stage) = location.strip_prefix('@') {
            return Place::of_stage(stage);
        }
        if let Some(quoted) = location.strip_prefix("'@") {
            let quoted = quoted.strip_suffix('\'').unwrap_or(quoted);
            return Place::of_stage(&quoted.replace("''", "'").replace("\\\\", "\\"));
        }
        if let Some((scheme, rest)) = location.split_once("://") {
            let scheme = scheme.to_lowercase();
            let rest = rest.split(['?', '#']).next().unwrap_or(rest);
            let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
            let host = host.rsplit('@').next().unwrap_or(host).to_lowercase();
            if scheme == "file" && (host.is_empty() || host == "localhost") {
                return Place::new("/", path);
            }
            return Place::new(&format!("{scheme}://{host}"), path);
        }
        match location.strip_prefix('/') {
            Some(path) => Place::new("/", path),
            None => Place::new("", location),
        }
    }

    /// `db.schema.stage/path`: unquoted identifiers are upper case to Snowflake, quoted ones and paths as written.
    fn of_stage(stage: &str) -> Place {
        let mut is_quoted = false;
        let end = stage.find(|c: char| {
            is_quoted ^= c == '"';
            c == '/' && !is_quoted
        });
        let (stage, path) = stage.split_at(end.unwrap_or(stage.len()));
        let mut root = String::from("@");
        let mut is_quoted = false;
        let mut chars = stage.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                // Doubled, it belongs to the name; the dot between names is told from a dot in a name.
                '"' if is_quoted && chars.peek() == Some(&'"') => root.extend(chars.next()),
                '"' => is_quoted = !is_quoted,
                '.' if !is_quoted => root.push('\0'),
                c if is_quoted => root.push(c),
                c => root.extend(c.to_uppercase()),
            }
        }
        Place::new(&root, path)
    }

    fn new(root: &str, path: &str) -> Place {
        let mut names: Vec<String> = Vec::new();
        for name in path.split('/') {
            let back = names.last().is_some_and(|last| last != "..");
            match name {
                "" | "." => {}
                ".." if back => {
                    names.pop();
                }
                ".." if root == "/" => {}
                name => names.push(name.to_string()),
            }
        }
        Place {
            root: root.to_string(),
            names,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nesting_is_seen_through_every_spelling() {
        use Nesting::*;
        for (first, second, expected) in [
            ("data", "data", Same),
            ("data/", "./data//", Same),
            ("data/x/..", "data", Same),
            ("/data", "file:///data/", Same),
            ("file://localhost/data", "/data", Same),
            ("data/out", "data", Inside),
            ("data", "data/out", Around),
            (".", "out", Around),
            ("out", "./", Inside),
            ("/", "/data", Around),
            ("/../data", "/data", Same),
            ("../out", "data", Apart),
            ("../out", "..", Inside),
            ("data", "data2", Apart),
            ("data", "/data", Apart),
            ("s3://bucket/a", "s3://bucket/a/b", Around),
            ("S3://Bucket/a", "s3://bucket/a", Same),
            ("s3://bucket", "s3://bucket/a", Around),
            ("s3://bucket/A", "s3://bucket/a", Apart),
            ("s3://bucket/a", "gs://bucket/a", Apart),
            ("az://c/a?sig=x", "az://c/a", Same),
            ("https://user:pw@host/a", "https://host/a", Same),
            ("@db.schema.stage/in", "@DB.SCHEMA.STAGE/in/", Same),
            ("@\"db\".schema.stage/in", "@DB.SCHEMA.STAGE/in", Apart),
            ("@\"DB\".schema.\"STAGE\"", "@db.schema.stage/out", Around),
            ("@\"a/b\"/x", "@\"a/b\"/x/y", Around),
            ("@stage/IN", "@stage/in", Apart),
            ("'@db.schema.stage/in'", "@db.schema.stage", Inside),
            ("'@s/it''s'", "@s/it's", Same),
            ("@\"st\"\"age\"/x", "@\"stage\"/x", Apart),
            ("@\"st\"\"age\"/x", "@\"st\"\"age\"", Inside),
            ("@\"A.B\"", "@a.b", Apart),
        ] {
            assert_eq!(nesting(first, second), expected, "{first} and {second}");
        }
    }

    #[test]
    fn a_shown_location_has_no_secrets_in_it() {
        for (location, expected) in [
            ("data/a?b", "data/a?b"),
            ("az://c/a?sv=1&sig=SECRET", "az://c/a?…"),
            ("https://user:SECRET@host/a@b/c#SECRET", "https://host/a@b/c?…"),
            ("s3://bucket", "s3://bucket"),
        ] {
            assert_eq!(shown(location), expected);
        }
    }

    #[test]
    fn a_job_folder_lies_below_its_base() {
        assert_eq!(below("out/", "job"), "out/job");
        assert_eq!(below("@db.s.st", "job"), "@db.s.st/job");
        assert_eq!(below("/", "job"), "/job");
        assert_eq!(below("'@db.s.\"a b\"/'", "job"), "'@db.s.\"a b\"/job'");
    }
}
