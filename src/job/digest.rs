//! The digest of a job: everything in it that decides the bytes of the output.
//!
//! A restart with the same run id must mean the same work, so the digest is pinned in the plan. What only decides how
//! fast or by whom the work is done (workers, replicas, memory) is left out; so is the input's *content*, which the
//! plan pins file by file, and the model's, which has a digest of its own.

use sha2::{Digest, Sha256};
use std::fmt::Write;

use crate::config::{Device, Job, OnRowError, Precision};
use crate::signature::OnNull;

/// `sha256:<hex>` of the parts of a job that decide its output.
pub fn of(job: &Job, function_name: &str) -> String {
    let Job { input, output, .. } = job;
    let on_null = match input.on_null {
        OnNull::Fail => "fail".to_string(),
        OnNull::Nan => "nan".to_string(),
        OnNull::Fill(value) => format!("fill {value:?}"),
    };
    let mut facts = serde_json::json!({
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
    // Other kernels round differently. Left out where nothing was asked for, so that digests stay what they were.
    if job.model.precision != Precision::default() {
        facts["precision"] = job.model.precision.as_str().into();
    }
    if let Some(scale) = job.model.jpeg_scale {
        facts["jpeg_scale"] = serde_json::json!(scale);
    }
    // Which of the GPUs doesn't matter.
    if matches!(job.model.device, Device::Gpus | Device::Cuda(_)) {
        facts["device"] = "cuda".into();
    }
    if input.on_row_error != OnRowError::default() {
        facts["on_row_error"] = format!("{:?}", input.on_row_error).into();
    }
    if !input.columns.is_empty() {
        facts["input_columns"] = serde_json::json!(input.columns);
    }
    if !input.column_handling.is_empty() {
        facts["column_handling"] = serde_json::json!(input.column_handling);
    }
    if !job.model.execution_providers.is_empty() {
        let names = job
            .model
            .execution_providers
            .iter()
            .map(|provider| provider.as_str());
        facts["execution_providers"] = names.collect::<Vec<_>>().into();
    }
    let digest = Sha256::digest(facts.to_string().as_bytes());
    let mut text = String::from("sha256:");
    for byte in digest {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::overrides::{Environment, Overrides};
    use crate::config::resolve::resolve;
    use crate::config::{ExecutionProvider, JpegScale};

    #[test]
    fn precision_and_providers_decide_the_bytes_and_their_defaults_are_as_if_nothing_was_said() {
        let flags = Overrides {
            model: Some("m".into()),
            input: Some("in".into()),
            output: Some("out".into()),
            ..Overrides::default()
        };
        let job = |precision, providers: &[ExecutionProvider]| {
            let mut job = resolve(None, &flags, &Environment::default()).unwrap().job;
            job.model.precision = precision;
            job.model.execution_providers = providers.to_vec();
            of(&job, "predict")
        };
        let plain = job(Precision::F32, &[]);
        let openvino = job(Precision::F32, &[ExecutionProvider::Openvino]);
        let bf16 = job(Precision::Bf16, &[ExecutionProvider::Openvino]);
        assert!(plain != openvino && plain != bf16 && openvino != bf16);
        let said = Overrides {
            precision: Some("f32".into()),
            ..flags.clone()
        };
        let said = resolve(None, &said, &Environment::default()).unwrap().job;
        assert_eq!(of(&said, "predict"), plain);
        let scaled = |scale| {
            let mut job = resolve(None, &flags, &Environment::default()).unwrap().job;
            job.model.jpeg_scale = scale;
            of(&job, "predict")
        };
        assert_eq!(scaled(None), plain);
        assert_ne!(scaled(Some(JpegScale::Reduced)), plain);
        let on = |device| {
            let mut job = resolve(None, &flags, &Environment::default()).unwrap().job;
            job.model.device = device;
            of(&job, "predict")
        };
        assert_eq!(on(Device::Cpu), plain);
        assert_ne!(on(Device::Gpus), plain);
        assert_eq!(on(Device::Gpus), on(Device::Cuda(1)));
    }
}
