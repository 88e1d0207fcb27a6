//! Statements and their answers, at once or after a while.

use std::io::Write;

use hyper::Method;
use serde_json::{Value, json};

use super::{Shared, refusal};
use crate::snowflake::sql::{Statement, parse};
use crate::snowflake::stages::File;

impl Shared {
    pub(super) async fn query(&self, body: &Value, token: &str) -> Value {
        if let Some(refused) = self.use_token(token) {
            return refused;
        }
        let text = body["sqlText"].as_str().unwrap_or_default();
        let answer = match parse(text) {
            Ok(statement) => self.run(&statement, token).await,
            Err(why) => refusal("001003", &format!("SQL compilation error: {why}")),
        };
        let mut state = self.state();
        if state.looks == 0 || answer["success"] != true {
            return answer;
        }
        state.number += 1;
        let id = format!("query-{}", state.number);
        let looks = state.looks;
        state.running.insert(id.clone(), (looks, answer));
        running(&id)
    }

    pub(super) fn result(&self, id: &str) -> Value {
        let mut state = self.state();
        let Some((looks, _)) = state.running.get_mut(id) else {
            return refusal("000709", "Statement not found");
        };
        *looks -= 1;
        match *looks {
            0 => state.running.remove(id).unwrap().1,
            _ => running(id),
        }
    }

    async fn run(&self, statement: &Statement, token: &str) -> Value {
        let place = match statement {
            Statement::Select(value) => return rows(&["1"], vec![json!([value])]),
            Statement::Put { target, .. } => target,
            Statement::Get { source, .. } => source,
            Statement::List(source) | Statement::Remove(source) => source,
        };
        let (stage, name) = {
            let state = self.state();
            let session = &state.sessions[token];
            let Some(name) = place.full_name(session.database.as_deref(), session.schema.as_deref()) else {
                return refusal(
                    "090105",
                    "Cannot perform operation. This session does not have a current database.",
                );
            };
            (state.stages.get(&name).cloned(), name)
        };
        let missing = || {
            refusal(
                "002003",
                &format!("Stage '{name}' does not exist or not authorized."),
            )
        };
        let Some(stage) = stage else { return missing() };
        if !stage.may_read {
            return missing();
        }
        let writes = matches!(statement, Statement::Put { .. } | Statement::Remove(_));
        if writes && !stage.may_write {
            return refusal(
                "003001",
                "SQL access control error: Insufficient privileges to operate on stage",
            );
        }
        match statement {
            Statement::Put { file, .. } => {
                let mut data = json!({
                    "command": "UPLOAD", "src_locations": [file], "parallel": 4, "threshold": 209715200,
                    "autoCompress": !statement.says("AUTO_COMPRESS", "FALSE"), "sourceCompression": "auto_detect",
                    "overwrite": statement.says("OVERWRITE", "TRUE"), "queryId": "q-1", "clientShowEncryptionParameter": true,
                    "stageInfo": stage.info(&place.path), "encryptionMaterial": stage.material(),
                });
                if stage.is_signed() {
                    let name = file.rsplit('/').next().unwrap_or_default();
                    let path = stage.file(&format!("{}/{name}", place.path));
                    data["stageInfo"]["presignedUrl"] = self.sign(Method::PUT, path).into();
                }
                self.transferred(data)
            }
            Statement::Get { folder, .. } => {
                let files = stage.list(&place.path).await;
                let sources: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
                let materials: Vec<Value> = files.iter().map(|_| stage.material()).collect();
                let mut data = json!({
                    "command": "DOWNLOAD", "src_locations": sources, "localLocation": folder, "parallel": 4,
                    "queryId": "q-2", "stageInfo": stage.info(""), "encryptionMaterial": materials,
                });
                if stage.is_signed() {
                    let urls = sources
                        .iter()
                        .map(|source| self.sign(Method::GET, stage.file(source)));
                    data["presignedUrls"] = urls.collect::<Vec<_>>().into();
                }
                self.transferred(data)
            }
            Statement::List(_) => {
                let files = stage.list(&place.path).await;
                let begin = place.listing_prefix();
                let row = |file: File| {
                    json!([
                        format!("{begin}{}", file.path),
                        file.size,
                        file.md5,
                        file.modified
                    ])
                };
                let rows = rows(
                    &["name", "size", "md5", "last_modified"],
                    files.into_iter().map(row).collect(),
                );
                self.in_pieces(rows)
            }
            Statement::Remove(_) => {
                let files = stage.list(&place.path).await;
                for file in &files {
                    stage.remove(&file.path).await;
                }
                let row = |file: File| json!([file.path, "removed"]);
                rows(&["name", "result"], files.into_iter().map(row).collect())
            }
            Statement::Select(_) => unreachable!("answered above"),
        }
    }

    fn transferred(&self, mut data: Value) -> Value {
        if let Some(twist) = self.state().twist {
            twist(&mut data);
        }
        json!({"success": true, "data": data})
    }

    /// All rows but the first behind a URL, as Snowflake does with long results.
    fn in_pieces(&self, mut answer: Value) -> Value {
        let mut state = self.state();
        let rows = answer["data"]["rowset"].as_array_mut().unwrap();
        if !state.is_in_pieces || rows.len() < 2 {
            return answer;
        }
        let rest = Value::from(rows.split_off(1)).to_string();
        let count = answer["data"]["total"].as_u64().unwrap() - 1;
        // A list without its brackets.
        let text = &rest.as_bytes()[1..rest.len() - 1];
        state.number += 1;
        let signature = format!("c4n4ry{}", state.number);
        let url = format!(
            "http://{}/bucket/piece?X-Goog-Signature={signature}",
            self.address
        );
        state.pieces.insert(signature, zip(text));
        let data = &mut answer["data"];
        data["returned"] = 1.into();
        data["chunks"] =
            json!([{"url": url, "rowCount": count, "uncompressedSize": text.len(), "compressedSize": 1}]);
        data["chunkHeaders"] = json!({"x-piece-key": "c4n4ry"});
        answer
    }
}

fn running(id: &str) -> Value {
    json!({"success": true, "code": "333334", "message": "Query execution in progress.", "data": {
        "queryId": id, "getResultUrl": format!("/queries/{id}/result"), "queryAbortsAfterSecs": 300,
    }})
}

fn rows(names: &[&str], rows: Vec<Value>) -> Value {
    let column = |name: &&str| {
        json!({
            "name": name, "type": "text", "nullable": true, "length": 16777216, "byteLength": 16777216, "precision": null,
            "scale": null, "database": "", "schema": "", "table": "",
        })
    };
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_string);
    let row = |row: &Value| row.as_array().unwrap().iter().map(text).collect::<Vec<_>>();
    let rows: Vec<Vec<String>> = rows.iter().map(row).collect();
    json!({"success": true, "data": {
        "rowtype": names.iter().map(column).collect::<Vec<_>>(), "total": rows.len(), "returned": rows.len(),
        "rowset": rows, "queryId": "q-3", "queryResultFormat": "json", "parameters": [], "statementTypeId": 4096,
        "finalDatabaseName": null, "finalSchemaName": null,
    }})
}

fn zip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}
