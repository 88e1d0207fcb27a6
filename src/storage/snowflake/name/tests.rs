use super::*;
use crate::config::nesting::{Nesting, nesting};
use crate::error::ErrorKind;
use proptest::prelude::*;

#[test]
fn every_way_to_write_a_stage_is_understood() {
    for (written, sql) in [
        ("@db.schema.stage/in", "@DB.SCHEMA.STAGE/in"),
        ("@stage", "@STAGE"),
        ("@s.stage//in/./x/", "@S.STAGE/in/x"),
        ("@~", "'@~'"),
        ("@~/in/x", "'@~/in/x'"),
        ("@%t/in", "'@%T/in'"),
        ("@db.s.%t", "'@DB.S.%T'"),
        ("@s.%\"my t\"/x", "'@S.%\"my t\"/x'"),
        (
            "@\"My DB\".s.\"st\"\"a/ge.x\"/p q",
            "'@\"My DB\".S.\"st\"\"a/ge.x\"/p q'",
        ),
        ("'@\"o''brien\"/it''s'", "'@\"o''brien\"/it''s'"),
        ("'@stage/a\\\\b'", "'@STAGE/a\\\\b'"),
        ("@stage/k=1/part-0.parquet", "'@STAGE/k=1/part-0.parquet'"),
        (
            "snow://model/db.s.\"m.x\"/versions/V1/model",
            "'snow://model/DB.S.\"m.x\"/versions/V1/model'",
        ),
    ] {
        let parsed = StagePath::parse(written).unwrap();
        assert_eq!(parsed.to_sql(false), sql, "{written}");
        assert_eq!(
            StagePath::parse(&parsed.to_sql(false)).unwrap(),
            parsed,
            "{written}"
        );
    }
}

#[test]
fn what_is_no_stage_is_refused_with_the_reason() {
    for (written, reason) in [
        ("@", "missing"),
        ("@db..stage", "missing"),
        ("@a.b.c.d", "more than three"),
        ("@my-stage/x", "'-' can't stand"),
        ("@1stage", "can't begin with '1'"),
        ("@\"open", "not closed"),
        ("@\"\"/x", "empty"),
        ("@\"a\"b/x", "'b' can't stand"),
        ("@stage/../secret", "holds .."),
        ("@stage/a\nb", "control character \\n"),
        ("@~x", "follows @~"),
        ("@%t.x", "follows the name of the table"),
        ("'@stage", "closing quote is missing"),
        ("'@stage' x", "follows the closing quote"),
        ("'@stage\\n'", "backslash"),
        ("snow://model", "no name"),
        ("snow://Model/m", "small letters"),
        ("@stage; drop table x", "';' can't stand"),
    ] {
        let error = StagePath::parse(written).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(reason), "{written}: {error}");
    }
}

#[test]
fn a_folder_is_not_what_only_begins_alike() {
    let stage = StagePath::parse("@s/in").unwrap();
    assert_eq!(stage.to_sql(true), "@S/in/");
    assert_eq!(StagePath::parse("@s").unwrap().to_sql(true), "@S");
    assert_eq!(stage.at(vec!["it's".into()]).to_sql(true), "'@S/it''s/'");
}

/// The texts of the literals of a statement, read as Snowflake reads them; `None` when they don't add up.
fn sql_tokens(sql: &str) -> Option<Vec<String>> {
    let mut tokens = Vec::new();
    let mut chars = sql.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '\'' {
            let mut bare = String::from(c);
            while chars.peek().is_some_and(|c| *c != ' ') {
                bare.push(chars.next()?);
            }
            chars.next();
            tokens.push(bare);
            continue;
        }
        let mut text = String::new();
        loop {
            match chars.next()? {
                '\\' => text.push(chars.next()?),
                '\'' if chars.peek() == Some(&'\'') => text.extend(chars.next()),
                '\'' => break,
                other => text.push(other),
            }
        }
        tokens.push(text);
        chars.next();
    }
    Some(tokens)
}

proptest! {
    #[test]
    fn what_is_printed_reads_back_as_the_same_name(
        parts in proptest::collection::vec(("[ -~é]{1,8}", any::<bool>()), 1..4),
        path in proptest::collection::vec("[ -.0-~é]{1,8}", 0..4),
        table in any::<bool>(),
    ) {
        let parts: Vec<Identifier> = parts
            .into_iter()
            .map(|(text, bare)| match bare {
                true => Identifier { text: format!("N{}", text.len()), is_quoted: false },
                false => Identifier { text, is_quoted: true },
            })
            .collect();
        prop_assume!(path.iter().all(|name| name != "." && name != ".."));
        let holder = if table { Holder::Table(parts) } else { Holder::Stage(parts) };
        let stage = StagePath { holder, path };
        prop_assert_eq!(&StagePath::parse(&stage.to_string()).unwrap(), &stage);
        prop_assert_eq!(&StagePath::parse(&stage.to_sql(false)).unwrap(), &stage);
    }

    /// The configuration compares locations by their text alone.
    #[test]
    fn places_are_the_same_by_their_text_when_they_are_by_their_meaning(
        first in "@[abAB\"]{1,4}[.]?[abAB\"]{0,4}(/[ab'\"]{1,2}){0,2}",
        second in "@[abAB\"]{1,4}[.]?[abAB\"]{0,4}(/[ab'\"]{1,2}){0,2}",
    ) {
        let (Ok(one), Ok(other)) = (StagePath::parse(&first), StagePath::parse(&second)) else {
            return Ok(());
        };
        let quoted = literal(&second);
        prop_assert_eq!(nesting(&second, &quoted), Nesting::Same);
        let names = |stage: &StagePath| -> Vec<String> {
            let Holder::Stage(parts) = &stage.holder else { return Vec::new() };
            parts.iter().map(|part| part.text.clone()).collect()
        };
        let is_same = names(&one) == names(&other) && one.path == other.path;
        prop_assert_eq!(nesting(&first, &quoted) == Nesting::Same, is_same);
    }

    #[test]
    fn no_name_ends_the_token_it_stands_in(location in "[@'][ -~é]{0,24}") {
        let Ok(stage) = StagePath::parse(&location) else { return Ok(()) };
        let sql = format!("PUT {} {}", literal("file:///x"), stage.to_sql(true));
        let tokens = sql_tokens(&sql).unwrap();
        let slash = if stage.path.is_empty() { "" } else { "/" };
        prop_assert_eq!(tokens, ["PUT".to_string(), "file:///x".into(), format!("{stage}{slash}")]);
    }
}
