//! A text that is never printed.

use std::fmt;

/// What is printed in place of a secret.
const HIDDEN: &str = "[hidden]";

/// Shorter ones are not searched for in foreign text: cutting every `a` out of a message says more than it hides.
const LEAST_SEARCHED: usize = 4;

/// A token, password or key.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Secret(String);

impl Secret {
    pub(super) fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The secret itself, for the request it belongs to.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }

    /// Foreign text that may repeat the secret, without it.
    pub(super) fn cut_from(&self, text: &str) -> String {
        match self.0.len() < LEAST_SEARCHED {
            true => text.to_string(),
            false => text.replace(&self.0, HIDDEN),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_neither_printed_nor_left_in_foreign_text() {
        let secret = Secret::new("s3cret");
        assert_eq!(
            format!("{secret:?} {:?}", Some(&secret)),
            "[hidden] Some([hidden])"
        );
        assert_eq!(secret.cut_from("bad token s3cret!"), "bad token [hidden]!");
        assert_eq!(Secret::new("a").cut_from("a bad day"), "a bad day");
    }
}
