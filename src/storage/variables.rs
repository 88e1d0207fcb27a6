//! What the process's environment says about stores, handed in by the program: nothing here reads the environment.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// Variables by name. Some are secrets, so the values are never printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Variables(BTreeMap<String, String>);

impl Variables {
    /// Beginnings of the names that stores look for.
    pub const PREFIXES: [&'static str; 9] = [
        "AWS_",
        "AZURE_",
        "GOOGLE_",
        "SERVICE_ACCOUNT",
        "SNOWFLAKE_",
        "FLOE_SNOWFLAKE_",
        "PRIVATE_KEY_PASSPHRASE",
        "HOME",
        "XDG_",
    ];

    /// Those of `all` that stores look for.
    pub fn of(all: impl IntoIterator<Item = (String, String)>) -> Variables {
        let wanted = |name: &str| Self::PREFIXES.iter().any(|prefix| name.starts_with(prefix));
        Variables(
            all.into_iter()
                .filter(|(name, value)| wanted(name) && !value.is_empty())
                .collect(),
        )
    }

    /// The value of `name`, unless it is not set or empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// A folder or file named by a variable.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.get(name).map(PathBuf::from)
    }

    /// Every variable, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
