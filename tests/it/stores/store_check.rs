//! `floe store-check` on real servers: what each store promises, and that nothing stays there.

use super::{Cloud, Place, block_on};
use crate::support::{finish, floe};
use floe::storage::Store;

#[test]
fn each_cloud_is_of_the_class_that_its_conditional_writes_allow() {
    let cases = [
        (Cloud::S3, "A", &[][..]),
        (Cloud::Azure, "A", &[]),
        (Cloud::Google, "A", &[]),
        (Cloud::S3Unconditional, "B", &["create_if_absent", "create_race"]),
    ];
    for (cloud, class, failing) in cases {
        let Some(place) = Place::new(cloud) else {
            continue;
        };
        let mut command = floe(["store-check", "--json", &format!("{}/some/prefix", place.url)]);
        for (name, value) in place.settings() {
            command.env(name.to_ascii_uppercase(), value);
        }
        let run = finish(command).ok();
        let report = run.json();
        let findings = report["findings"].as_array().unwrap();
        let found: Vec<_> = findings
            .iter()
            .filter(|finding| finding["outcome"] == "fails")
            .map(|finding| finding["property"].as_str().unwrap())
            .collect();
        assert_eq!(found, failing, "{cloud:?}: {report:#}");
        assert_eq!(report["store_class"], class, "{cloud:?}: {report:#}");
        let many = findings
            .iter()
            .find(|finding| finding["property"] == "many_objects");
        assert_eq!(many.unwrap()["detail"], "1001 objects");
        let left = block_on(async { place.output("").await.list("").await.unwrap() });
        assert_eq!(left, [], "{cloud:?}");
    }
}
