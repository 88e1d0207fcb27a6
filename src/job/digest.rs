//! The digest of a job: everything in it that decides the bytes of the output.
//!
//! A restart with the same run id must mean the same work, so the digest is pinned in the plan. What only decides how
//! fast or by whom the work is done (workers, replicas, memory) is left out; so is the input's *content*, which the
//! plan pins file by file, and the model's, which has a digest of its own.

use sha2::{Digest, Sha256};
use std::fmt::Write;

use crate::config::Job;
use crate::signature::OnNull;

/// `sha256:<hex>` of the parts of a job that decide its output.
pub fn of(job: &Job, function_name: &str) -> String {
    let Job { input, output, .. } = job;
    let on_null = match input.on_null {
        OnNull::Fail => "fail".to_string(),
        OnNull::Nan => "nan".to_string(),
        OnNull::Fill(value) => format!("fill {value:?}"),
    };
    let facts = serde_json::json!({
        "function": function_name,
        "input": input.location,
        "file_pattern": input.file_pattern,
        "params": input.params,
        "on_null": on_null,
        "on_out_of_range": format!("{:?}", input.on_out_of_range),
        "partition_by": output.partition_by,
        "compression": output.compression,
        "columns": output.columns,
        "rename": output.rename,
        "prefix": output.prefix,
        "max_batch_rows": job.inference.max_batch_rows,
    });
    let digest = Sha256::digest(facts.to_string().as_bytes());
    let mut text = String::from("sha256:");
    for byte in digest {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
