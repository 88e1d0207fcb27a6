//! Snowflake's codes for what it refuses: what kind of mistake each is, and what to do about it.

use crate::error::ErrorKind;

/// Whether somebody must change something first, or the same may work later.
pub(super) fn kind(code: &str) -> ErrorKind {
    const TO_BE_CHANGED: [&str; 14] = [
        "001003", "002003", "002043", "003001", "090105", "090106", "390100", "390144", "390186", "390189",
        "390201", "390422", "394304", "394400",
    ];
    match TO_BE_CHANGED.contains(&code) {
        true => ErrorKind::Config,
        false => ErrorKind::Storage,
    }
}

/// What to do about a code of Snowflake's.
pub(super) fn advice(code: &str) -> Option<&'static str> {
    Some(match code {
        "390100" | "390102" => "check user and password, and that the user is not locked",
        "390144" | "394300" | "394301" | "394302" | "394303" | "394304" | "394305" | "394306" => {
            "check that this machine's clock is right, and that the key's public half is set on the user"
        }
        "390189" | "390186" => {
            "the role is not granted to this user, or the token does not allow it; check role"
        }
        "390303" | "390318" => {
            "the OAuth token is not accepted or has expired; a token file is read anew at each login"
        }
        "390422" => {
            "the account's network policy does not let this address in; ask its administrator to allow it"
        }
        "394400" => {
            "the programmatic access token is not accepted; it may be expired, disabled or for another account"
        }
        "090105" | "090106" => {
            "the session has no current database or schema: write @db.schema.stage, or set both in the connection"
        }
        "002003" | "002043" => {
            "check the name (quoted names keep their case), and that the role has USAGE on database and schema and \
             READ or WRITE on the stage"
        }
        "003001" => "the role needs READ on the stage to read, and READ and WRITE to write",
        _ => return None,
    })
}
