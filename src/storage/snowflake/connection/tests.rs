use super::*;

fn variables(pairs: &[(&str, &str)]) -> Variables {
    Variables::of(
        pairs
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string())),
    )
}

/// A connection whose settings are all variables.
fn outside(pairs: &[(&str, &str)]) -> Result<Connection> {
    Connection::find(None, &variables(pairs))
}

#[test]
fn inside_a_container_its_token_and_variables_are_used() {
    let folder = tempfile::tempdir().unwrap();
    let pairs = [
        ("FLOE_SNOWFLAKE_SESSION_FOLDER", folder.path().to_str().unwrap()),
        ("SNOWFLAKE_HOST", "acct.snowflakecomputing.com"),
        ("SNOWFLAKE_ACCOUNT", "acct"),
        ("SNOWFLAKE_DATABASE", "DB"),
        ("SNOWFLAKE_RUNNING_INSIDE_SPCS", "1"),
    ];
    let error = outside(&pairs).unwrap_err().to_string();
    assert!(error.contains("no password"), "{error}");
    std::fs::write(folder.path().join("token"), "one\n").unwrap();
    let connection = outside(&pairs).unwrap();
    assert_eq!(connection.base.as_str(), "https://acct.snowflakecomputing.com/");
    assert_eq!(connection.database.as_deref(), Some("DB"));
    let Login::Token(TokenKind::OAuth, source) = &connection.login else {
        panic!("{connection:?}");
    };
    assert_eq!(source.read().unwrap().reveal(), "one");
    std::fs::write(folder.path().join("token"), "two").unwrap();
    assert_eq!(source.read().unwrap().reveal(), "two");
    std::fs::write(folder.path().join("token"), " \n").unwrap();
    assert!(source.read().unwrap_err().to_string().contains("is empty"));
    let identity = connection.identity.unwrap();
    assert_eq!(read_identity(&identity), None);
    std::fs::write(&identity, " me \n").unwrap();
    assert_eq!(read_identity(&identity).unwrap().reveal(), "me");
}

#[test]
fn hosts_follow_from_accounts_as_in_the_connector() {
    for (account, region, host) in [
        ("acct", None, "acct.snowflakecomputing.com"),
        ("org-acct", None, "org-acct.snowflakecomputing.com"),
        ("acct.eu-west-1", None, "acct.eu-west-1.snowflakecomputing.com"),
        ("acct", Some("eu-west-1"), "acct.eu-west-1.snowflakecomputing.com"),
        ("acct", Some("us-west-2"), "acct.snowflakecomputing.com"),
        ("acct.cn-north-1", None, "acct.cn-north-1.snowflakecomputing.cn"),
    ] {
        assert_eq!(host_of(account, region), host);
    }
    let given = outside(&[
        ("SNOWFLAKE_ACCOUNT", "acct-x1.global"),
        ("SNOWFLAKE_USER", "me"),
        ("SNOWFLAKE_PASSWORD", "pw"),
    ]);
    assert_eq!(given.unwrap().account_name(), "acct");
}

#[test]
fn tokens_are_sent_in_plain_to_this_machine_alone() {
    for host in ["localhost", "127.0.0.1", "[::1]"] {
        base(Some("http"), host, Some("80")).unwrap();
    }
    for (protocol, host, port) in [
        ("http", "acct.snowflakecomputing.com", None),
        ("http", "localhost.example.org", None),
        ("ftp", "localhost", None),
        ("https", "acct/@evil", None),
        ("https", "acct@evil", None),
        ("https", "acct", Some("x")),
    ] {
        let error = base(Some(protocol), host, port).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{protocol} {host}");
    }
}

#[test]
fn ways_to_log_in_are_told_apart_and_those_with_a_screen_refused() {
    let with = |more: &[(&str, &str)]| {
        outside(&[&[("SNOWFLAKE_ACCOUNT", "a"), ("SNOWFLAKE_USER", "u")], more].concat())
    };
    let login = |more: &[(&str, &str)]| with(more).unwrap().login;
    assert!(matches!(
        login(&[("SNOWFLAKE_PASSWORD", "pw")]),
        Login::Password(_)
    ));
    let token = [("SNOWFLAKE_AUTHENTICATOR", "oauth"), ("SNOWFLAKE_TOKEN", "t")];
    assert!(matches!(
        login(&token),
        Login::Token(TokenKind::OAuth, TokenSource::Given(_))
    ));
    let file = [
        ("SNOWFLAKE_AUTHENTICATOR", "programmatic_access_token"),
        ("SNOWFLAKE_TOKEN_FILE_PATH", "/t"),
        ("SNOWFLAKE_TOKEN", "t"),
    ];
    let login = login(&file);
    assert!(matches!(
        login,
        Login::Token(TokenKind::ProgrammaticAccess, TokenSource::File(_))
    ));
    for (authenticator, reason) in [
        ("externalbrowser", "in front of a screen"),
        ("username_password_mfa", "in front of a screen"),
        ("https://c4n4ry.okta.com", "of a URL is not supported"),
        ("workload_identity", "not supported"),
        ("oauth", "no token_file_path"),
        ("snowflake_jwt", "no private_key_file"),
        ("snowflake", "no password"),
    ] {
        let error = with(&[("SNOWFLAKE_AUTHENTICATOR", authenticator)])
            .unwrap_err()
            .to_string();
        assert!(error.contains(reason), "{error}");
        assert!(!error.contains("c4n4ry"), "{error}");
    }
    let error = outside(&[("SNOWFLAKE_ACCOUNT", "a"), ("SNOWFLAKE_PASSWORD", "c4n4ry")]).unwrap_err();
    assert!(error.to_string().contains("no user") && !error.to_string().contains("c4n4ry"));
}
