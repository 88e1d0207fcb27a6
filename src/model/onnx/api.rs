//! The few functions of ONNX Runtime's C interface that `ort` has no words for.
//!
//! All unsafe code about the library lies here, each call behind a safe function that copies what it is told. `Device`
//! and `Session` are `ort`'s own and keep what they point to alive for the length of a call.

#![allow(unsafe_code)]

use ort::AsPointer;
use ort::device::Device;
use ort::session::Session;
use std::ffi::{CStr, CString, c_char};

/// What the maker of `device` says about it under `key`.
pub fn metadata(device: &Device<'_>, key: &str) -> Option<String> {
    let key = CString::new(key).ok()?;
    let api = ort::api();
    // SAFETY: the device belongs to the environment, which outlives this call, as does its metadata; the answer is
    // null or a C string that belongs to the metadata and is copied at once.
    unsafe {
        let metadata = (api.EpDevice_EpMetadata)(device.ptr());
        let value = (!metadata.is_null()).then(|| (api.GetKeyValue)(metadata, key.as_ptr()))?;
        text(value)
    }
}

/// Which provider runs how many nodes of a session that was made with `session.record_ep_graph_assignment_info`.
pub fn assigned(session: &Session) -> ort::Result<Vec<(String, usize)>> {
    let api = ort::api();
    let mut found = Vec::new();
    // SAFETY: the session is alive; it owns the array, what that points to and their names, and they are copied before
    // it can go. Pointers and counts are written by the library only when the status is a success.
    unsafe {
        let (mut parts, mut count) = (std::ptr::null(), 0);
        let status = (api.Session_GetEpGraphAssignmentInfo)(session.ptr(), &mut parts, &mut count);
        ort::Error::result_from_status(status)?;
        if parts.is_null() {
            return Ok(found);
        }
        for &part in std::slice::from_raw_parts(parts, count) {
            let mut name = std::ptr::null();
            ort::Error::result_from_status((api.EpAssignedSubgraph_GetEpName)(part, &mut name))?;
            let (mut nodes, mut nodes_in_part) = (std::ptr::null(), 0);
            let status = (api.EpAssignedSubgraph_GetNodes)(part, &mut nodes, &mut nodes_in_part);
            ort::Error::result_from_status(status)?;
            found.push((text(name).unwrap_or_default(), nodes_in_part));
        }
    }
    Ok(found)
}

/// A copy of a C string that may be null.
///
/// # Safety
/// `pointer` is null or points to a string that ends with a zero byte.
unsafe fn text(pointer: *const c_char) -> Option<String> {
    // SAFETY: as the caller promises.
    (!pointer.is_null()).then(|| unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned())
}
