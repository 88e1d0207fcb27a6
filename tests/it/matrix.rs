//! `docs/failure-matrix.md` is held to the tests: every fault has a row, every row a test or a reason, every test that
//! a row names exists and names the row. So is `docs/guarantees.md`: every promise has a test.

use crate::support::project;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// How many faults there are.
const FAULTS: u32 = 70;

/// What a test's doc comment says before the numbers of its faults.
const MARK: &str = "Failure matrix: ";

/// A row of the page.
struct Row {
    fault: String,
    behaviour: String,
    tests: Vec<String>,
    /// Why there is no test, or what it leaves out.
    reason: String,
}

fn page() -> String {
    std::fs::read_to_string(project().join("docs/failure-matrix.md")).unwrap()
}

/// The rows of all tables whose first cell is a number.
fn rows() -> Vec<(u32, Row)> {
    let page = page();
    let mut rows = Vec::new();
    for line in page.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let Ok(number) = cells[0].parse() else {
            continue;
        };
        assert_eq!(cells.len(), 4, "a row has four cells: {line}");
        // Names of tests are the code of the last cell that has `::` in it; whatever else it says is a reason.
        let mut tests = Vec::new();
        let mut reason = String::new();
        for (index, piece) in cells[3].split('`').enumerate() {
            if index % 2 == 1 && piece.contains("::") {
                tests.push(piece.to_string());
            } else {
                reason.push_str(piece);
            }
        }
        rows.push((
            number,
            Row {
                fault: cells[1].to_string(),
                behaviour: cells[2].to_string(),
                tests,
                reason: reason.trim_matches([' ', ',']).to_string(),
            },
        ));
    }
    rows
}

/// Every test of the project with the numbers that its doc comment names.
fn tests() -> BTreeMap<String, BTreeSet<u32>> {
    let mut tests = BTreeMap::new();
    for (folder, root) in [("src", vec![]), ("tests/it", vec!["it".to_string()])] {
        collect(&project().join(folder), &root, &mut tests);
    }
    tests
}

fn collect(folder: &Path, module: &[String], tests: &mut BTreeMap<String, BTreeSet<u32>>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_string();
        let inside = |name: String| [module, &[name]].concat();
        if path.is_dir() {
            collect(&path, &inside(name), tests);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let module = match name.as_str() {
                "mod" | "lib" | "main" => module.to_vec(),
                _ => inside(name),
            };
            read(&std::fs::read_to_string(&path).unwrap(), &module, tests);
        }
    }
}

/// The tests of one file. `rustfmt` has seen to it that a module ends where its indentation does.
fn read(text: &str, module: &[String], tests: &mut BTreeMap<String, BTreeSet<u32>>) {
    let mut modules: Vec<(usize, String)> = Vec::new();
    let mut numbers = BTreeSet::new();
    let mut is_test = false;
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        let code = line.trim();
        if code == "}" && modules.last().is_some_and(|(outer, _)| *outer == indent) {
            modules.pop();
        }
        let words = code.trim_start_matches("pub ").trim_start_matches("async ");
        if let Some(name) = words
            .strip_prefix("mod ")
            .and_then(|rest| rest.strip_suffix(" {"))
        {
            modules.push((indent, name.to_string()));
        } else if let Some(comment) = code.strip_prefix("///") {
            if let Some((_, list)) = comment.split_once(MARK) {
                numbers.extend(list.trim_end_matches('.').split(", ").map(|number| {
                    number
                        .parse::<u32>()
                        .unwrap_or_else(|_| panic!("{}: not a list of numbers: {code}", module.join("::")))
                }));
            }
        } else if code.starts_with("#[") {
            is_test |= code == "#[test]" || code.starts_with("#[tokio::test");
        } else if let Some(rest) = words.strip_prefix("fn ") {
            let name: String = rest
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            let inner = modules.iter().map(|(_, module)| module.clone());
            let path: Vec<String> = module.iter().cloned().chain(inner).chain([name]).collect();
            let path = path.join("::");
            assert!(
                is_test || numbers.is_empty(),
                "{path} names faults and is no test"
            );
            if is_test {
                tests.insert(path, std::mem::take(&mut numbers));
            }
            is_test = false;
        } else if !code.is_empty() {
            assert!(
                numbers.is_empty(),
                "{}: {MARK}{numbers:?} belongs to no test",
                module.join("::")
            );
            is_test = false;
        }
    }
}

#[test]
fn every_fault_has_one_row_with_a_test_or_a_reason() {
    let rows = rows();
    let numbers: Vec<u32> = rows.iter().map(|(number, _)| *number).collect();
    assert_eq!(
        numbers,
        (1..=FAULTS).collect::<Vec<_>>(),
        "each fault once, in order"
    );
    let (mut tested, mut open) = (0, 0);
    for (number, row) in &rows {
        assert!(
            !row.fault.is_empty() && !row.behaviour.is_empty(),
            "row {number} is incomplete"
        );
        if row.tests.is_empty() {
            let is_reason = ["not yet: ", "does not apply: "]
                .iter()
                .any(|start| row.reason.starts_with(start) && row.reason.len() > start.len() + 20);
            assert!(
                is_reason,
                "row {number} has neither a test nor a reason: {:?}",
                row.reason
            );
            open += 1;
        } else {
            tested += 1;
        }
    }
    println!("{tested} faults with tests, {open} with a reason");
    let said = format!("{tested} of {FAULTS} have a test");
    assert!(page().contains(&said), "the page does not say: {said}");
}

#[test]
fn every_test_that_the_page_names_exists_and_names_its_fault_and_the_other_way_round() {
    let tests = tests();
    assert!(tests.len() > 400, "only {} tests were found", tests.len());
    let mut faults = Vec::new();
    let rows = rows();
    for (number, row) in &rows {
        for test in &row.tests {
            match tests.get(test) {
                None => faults.push(format!("row {number}: there is no test {test}")),
                Some(named) if !named.contains(number) => {
                    faults.push(format!("row {number}: {test} does not say \"{MARK}{number}\""));
                }
                Some(_) => {}
            }
        }
    }
    for (test, numbers) in &tests {
        for number in numbers {
            let is_listed = rows
                .iter()
                .any(|(listed, row)| listed == number && row.tests.contains(test));
            if !is_listed {
                faults.push(format!(
                    "{test} names fault {number}, and row {number} does not list it"
                ));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_test_that_the_guarantees_name_exists_and_every_promise_names_one() {
    let tests = tests();
    let page = std::fs::read_to_string(project().join("docs/guarantees.md")).unwrap();
    let rows = page
        .lines()
        .filter(|line| line.starts_with("| ") && !line.ends_with("| shown by |"));
    let mut promises = 0;
    for row in rows {
        let names: Vec<&str> = row
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|name| name.contains("::"))
            .collect();
        assert!(!names.is_empty(), "nothing shows this: {row}");
        for name in names {
            assert!(tests.contains_key(name), "there is no test {name}");
        }
        promises += 1;
    }
    assert!(promises > 20, "only {promises} promises were found");
}

#[test]
fn tests_are_found_where_they_are() {
    // The mark is put in here, or this page would be read as well.
    let text = "\
#[cfg(test)]
mod tests {
    /// What it shows.
    /// @6, 48.
    #[tokio::test(start_paused = true)]
    async fn one() {
        other();
    }

    fn other() {}

    mod inner {
        proptest! {
            /// @7.
            #[test]
            fn two(x in 0..1) {}
        }
    }
}

#[test]
#[cfg(unix)]
fn three() {}
"
    .replace('@', MARK);
    let mut tests = BTreeMap::new();
    read(&text, &["a".into(), "b".into()], &mut tests);
    let expected = [
        ("a::b::tests::inner::two", vec![7]),
        ("a::b::tests::one", vec![6, 48]),
        ("a::b::three", vec![]),
    ];
    let found: Vec<(&str, Vec<u32>)> = tests
        .iter()
        .map(|(name, numbers)| (name.as_str(), numbers.iter().copied().collect()))
        .collect();
    assert_eq!(found, expected);
}
