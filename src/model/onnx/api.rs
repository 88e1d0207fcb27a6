//! The few functions of ONNX Runtime's C interface that `ort` has no words for.
//!
//! All unsafe code about the library lies here, each call behind a safe function that copies what it is told. `Device`
//! and `Session` are `ort`'s own and keep what they point to alive for the length of a call.

#![allow(unsafe_code)]

use ort::AsPointer;
use ort::device::Device;
use ort::session::{Session, SessionInputValue};
use ort::value::DynValue;
use std::ffi::{CStr, CString, NulError, c_char};
use std::ptr::NonNull;

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

/// A session that all workers of a process run at once, so that its weights are in memory once.
///
/// `ort` lets one thread run a session, since several providers crash under more than one; ONNX Runtime itself allows
/// many for its own kernels, which keep nothing between calls (its header says so of `InferenceSession::Run`, and its
/// servers do so). Made of sessions without other providers and without threads of their own only.
pub struct Shared {
    session: Session,
    inputs: Vec<CString>,
    outputs: Vec<CString>,
}

impl Shared {
    /// `session`, which ONNX Runtime's own kernels run on the thread that calls, from `inputs` to `outputs`.
    ///
    /// # Errors
    /// When a name has a zero byte.
    pub fn new<'a>(
        session: Session,
        inputs: impl IntoIterator<Item = &'a str>,
        outputs: impl IntoIterator<Item = &'a str>,
    ) -> Result<Shared, NulError> {
        Ok(Shared {
            session,
            inputs: inputs.into_iter().map(CString::new).collect::<Result<_, _>>()?,
            outputs: outputs.into_iter().map(CString::new).collect::<Result<_, _>>()?,
        })
    }

    /// One value per output, in the order in which they were named.
    pub fn run(&self, inputs: &[SessionInputValue<'_>]) -> ort::Result<Vec<DynValue>> {
        if inputs.len() != self.inputs.len() {
            return Err(ort::Error::new(
                "another number of inputs than the session was shared with",
            ));
        }
        let names = |names: &[CString]| names.iter().map(|name| name.as_ptr()).collect::<Vec<_>>();
        let (input_names, output_names) = (names(&self.inputs), names(&self.outputs));
        let values: Vec<_> = inputs.iter().map(|value| value.ptr()).collect();
        let mut made = vec![std::ptr::null_mut(); self.outputs.len()];
        // SAFETY: all arrays are as long as the counts beside them and live until the call returns, as do the values;
        // the session is alive, and one that may be run by several threads (see `Shared`). Outputs that are null are
        // made by the library, which gives them away when the status is a success; each is wrapped once, with the
        // allocator of the session that made it.
        unsafe {
            let status = (ort::api().Run)(
                self.session.ptr().cast_mut(),
                std::ptr::null(),
                input_names.as_ptr(),
                values.as_ptr(),
                values.len(),
                output_names.as_ptr(),
                output_names.len(),
                made.as_mut_ptr(),
            );
            ort::Error::result_from_status(status)?;
            let wrap = |value| {
                let value = NonNull::new(value).ok_or_else(|| ort::Error::new("an output was not made"))?;
                Ok(DynValue::from_ptr(value, Some(self.session.allocator())))
            };
            made.into_iter().map(wrap).collect()
        }
    }
}

/// A copy of a C string that may be null.
///
/// # Safety
/// `pointer` is null or points to a string that ends with a zero byte.
unsafe fn text(pointer: *const c_char) -> Option<String> {
    // SAFETY: as the caller promises.
    (!pointer.is_null()).then(|| unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned())
}
