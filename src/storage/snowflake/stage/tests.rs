use super::*;
use crate::error::ErrorKind;
use serde_json::json;

fn read(data: Value) -> Result<Transfer> {
    read_at(data, "@db.s.st")
}

fn read_at(data: Value, stage: &str) -> Result<Transfer> {
    let date = iso_date("2026-11-21T10:00:00Z");
    Transfer::read(&Answer { data, date }, &StagePath::parse(stage).unwrap(), true)
}

fn s3(more: Value) -> Value {
    let mut info = json!({
        "locationType": "S3", "location": "bucket/stages/id/", "region": "us-west-2", "endPoint": null,
        "isClientSideEncrypted": false,
        "creds": {"AWS_KEY_ID": "AK", "AWS_SECRET_KEY": "c4n4ry", "AWS_TOKEN": "c4n4ry"},
    });
    info.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    json!({"command": "UPLOAD", "src_locations": ["/x"], "stageInfo": info, "encryptionMaterial": null})
}

#[test]
fn endpoints_of_s3_follow_as_in_the_connector() {
    for (more, expected) in [
        (json!({}), "https://bucket.s3.amazonaws.com"),
        (
            json!({"useS3RegionalUrl": true}),
            "https://bucket.s3.us-west-2.amazonaws.com",
        ),
        (
            json!({"useRegionalUrl": true}),
            "https://bucket.s3.us-west-2.amazonaws.com",
        ),
        (
            json!({"region": "cn-north-1"}),
            "https://bucket.s3.cn-north-1.amazonaws.com.cn",
        ),
        (
            json!({"endPoint": "s3-fips.us-west-2.amazonaws.com"}),
            "https://bucket.s3-fips.us-west-2.amazonaws.com",
        ),
        (
            json!({"endPoint": "http://127.0.0.1:5000/"}),
            "http://127.0.0.1:5000",
        ),
    ] {
        let transfer = read(s3(more)).unwrap();
        let Place::S3 {
            endpoint, is_virtual, ..
        } = &transfer.place
        else {
            panic!()
        };
        assert_eq!(endpoint, expected);
        assert_eq!(*is_virtual, !expected.starts_with("http:"));
        assert_eq!(transfer.prefix.join("/"), "stages/id");
        assert!(!format!("{transfer:?}").contains("c4n4ry"));
    }
}

#[test]
fn azure_says_until_when_its_signature_is_good() {
    let azure = |end_point: Value, token: &str| {
        json!({"stageInfo": {
            "locationType": "AZURE", "location": "container/stages/id", "storageAccount": "acct",
            "endPoint": end_point, "creds": {"AZURE_SAS_TOKEN": token},
        }})
    };
    let token = "?sv=2024&st=2026-11-21T09%3A00%3A00Z&se=2026-11-21T11%3A30%3A00Z&sig=c4n4ry%2Bx%3D";
    for (end_point, expected) in [
        (
            json!("blob.core.windows.net"),
            "https://acct.blob.core.windows.net",
        ),
        (json!("core.windows.net"), "https://acct.blob.core.windows.net"),
        (json!(null), "https://acct.blob.core.windows.net"),
        (json!("http://127.0.0.1:10000"), "http://127.0.0.1:10000/acct"),
    ] {
        let transfer = read(azure(end_point, token)).unwrap();
        let Place::Azure { endpoint, .. } = &transfer.place else {
            panic!()
        };
        assert_eq!(endpoint, expected);
        assert_eq!(transfer.lifetime, Some(Duration::from_secs(5400)));
        let Keys::Azure(keys) = &transfer.keys else {
            panic!()
        };
        let AzureCredential::SASToken(pairs) = &**keys else {
            panic!()
        };
        assert_eq!(pairs.last().unwrap().1, "c4n4ry+x=");
        assert!(!format!("{transfer:?}").contains("c4n4ry"));
    }
    let error = read(azure(json!(null), "c4n4ry")).unwrap_err().to_string();
    assert!(
        error.contains("AZURE_SAS_TOKEN is none") && !error.contains("c4n4ry"),
        "{error}"
    );
}

#[test]
fn gcs_has_a_token_or_a_signed_url_for_each_file() {
    let gcs = |more: Value| {
        let mut info = json!({"locationType": "GCS", "location": "bucket/stages/id/", "creds": {"GCS_ACCESS_TOKEN": "t"}});
        info.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        json!({"stageInfo": info})
    };
    for (more, expected) in [
        (json!({}), "https://storage.googleapis.com"),
        (
            json!({"region": "ME-CENTRAL2"}),
            "https://storage.me-central2.rep.googleapis.com",
        ),
        (json!({"region": "us-west1"}), "https://storage.googleapis.com"),
        (
            json!({"region": "us-west1", "useRegionalUrl": true}),
            "https://storage.us-west1.rep.googleapis.com",
        ),
        (
            json!({"useVirtualUrl": true}),
            "https://bucket.storage.googleapis.com",
        ),
        (
            json!({"endPoint": "storage.example.com/"}),
            "https://storage.example.com",
        ),
    ] {
        let transfer = read(gcs(more)).unwrap();
        let Place::Gcs { endpoint, .. } = &transfer.place else {
            panic!()
        };
        assert_eq!(endpoint, expected);
        assert!(matches!(transfer.keys, Keys::Gcs(_)));
    }
    let signed = read(gcs(
        json!({"creds": {}, "presignedUrl": "https://h/x?sig=c4n4ry"}),
    ))
    .unwrap();
    assert!(matches!(signed.keys, Keys::PerFile));
    assert_eq!(signed.urls.len(), 1);
    assert!(!format!("{signed:?}").contains("c4n4ry"));
}

#[test]
fn files_encrypted_by_the_client_are_refused_with_what_to_do() {
    for (stage, remedy) in [
        ("@db.s.st", "ENCRYPTION = (TYPE = 'SNOWFLAKE_SSE')"),
        ("@~", "use a named stage"),
        ("@%t", "use a named stage"),
    ] {
        let mut with_material = s3(json!({}));
        with_material["encryptionMaterial"] =
            json!({"queryStageMasterKey": "c4n4ry", "queryId": "q", "smkId": 1});
        let mut of_get = s3(json!({}));
        of_get["encryptionMaterial"] = json!([null, {"queryStageMasterKey": "c4n4ry"}]);
        for data in [with_material, of_get, s3(json!({"isClientSideEncrypted": true}))] {
            let error = read_at(data, stage).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(
                error.to_string().contains(remedy) && !error.to_string().contains("c4n4ry"),
                "{error}"
            );
        }
    }
    let mut of_get = s3(json!({}));
    of_get["encryptionMaterial"] = json!([null, null]);
    read(of_get).unwrap();
}

#[test]
fn an_answer_that_makes_no_sense_is_refused_in_words() {
    for (data, reason) in [
        (json!({}), "no stageInfo"),
        (json!({"stageInfo": {}}), "no locationType"),
        (json!({"stageInfo": {"locationType": "S3"}}), "no location"),
        (s3(json!({"locationType": "TAPE"})), "\"TAPE\" is unknown"),
        (s3(json!({"location": "/x"})), "no bucket"),
        (s3(json!({"location": "b@evil/x"})), "no bucket"),
        (s3(json!({"region": ""})), "no region"),
        (s3(json!({"creds": {}})), "no AWS credentials"),
        (s3(json!({"creds": null})), "no AWS credentials"),
        (s3(json!({"endPoint": "http://evil.example.com"})), "not https"),
        (
            s3(json!({"locationType": "LOCAL_FS", "location": "relative"})),
            "folder of this machine",
        ),
    ] {
        let error = read(data).unwrap_err().to_string();
        assert!(error.contains(reason), "{reason}: {error}");
    }
    let folder = s3(json!({"locationType": "LOCAL_FS", "location": "/tmp/x"}));
    assert_eq!(
        read(folder.clone()).unwrap().place,
        Place::Folder("/tmp/x".into())
    );
    let answer = Answer {
        data: folder,
        date: None,
    };
    assert!(Transfer::read(&answer, &StagePath::parse("@s").unwrap(), false).is_err());
}

#[test]
fn sources_are_found_whether_named_from_the_stage_or_from_the_path() {
    let prefix = |sources: &[&str], path: &[&str]| {
        let mut transfer = read(s3(json!({}))).unwrap();
        transfer.sources = sources.iter().map(|source| source.to_string()).collect();
        let path: Vec<String> = path.iter().map(|name| name.to_string()).collect();
        prefix_of_sources(&transfer, &path).map(|prefix| prefix.join("/"))
    };
    let found = |text: &str| Some(text.to_string());
    assert_eq!(
        prefix(&["in/a.parquet", "in/x/b.parquet"], &["in"]),
        found("stages/id/in")
    );
    assert_eq!(prefix(&["a.parquet"], &["in"]), found("stages/id"));
    assert_eq!(
        prefix(&["versions/V1/m.onnx"], &["versions", "V1"]),
        found("stages/id/versions/V1")
    );
    assert_eq!(prefix(&["V1/m.onnx"], &["versions", "V1"]), found("stages/id/V1"));
    assert_eq!(
        prefix(&["in/a.parquet"], &["in", "a.parquet"]),
        found("stages/id/in/a.parquet")
    );
    assert_eq!(prefix(&["in/a", "b"], &["in"]), None);
    assert_eq!(prefix(&[], &["in"]), found("stages/id/in"));
    assert_eq!(prefix(&["a"], &[]), found("stages/id"));
}
