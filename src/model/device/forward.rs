//! CUDA's functions, as Candle calls them: found in the libraries when they are loaded, not when the program starts.
//!
//! Candle's code names these functions as if the program were linked with the driver and with CUDA's libraries. Then it could
//! not start where one of them is missing, not even to say so. So the program brings functions of these names along: each
//! jumps to where [`resolve`] found the real one, and until then to one that answers with an error. What the linker is given
//! in place of the libraries is empty (`scripts/cuda-toolkit`); `scripts/check-cuda` looks whether any is needed after all.
//! The lists are those functions of cudarc 0.19 that its safe code and Candle 0.11 name.

#![allow(unsafe_code)]

use libloading::os::unix::Library;
use std::arch::naked_asm;
use std::ffi::{c_int, c_void};
use std::path::Path;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::driver::{DRIVER, words};
use super::libraries;

/// A function of a library: its name, where its address goes, and what has its name in this program.
struct Function {
    library: &'static str,
    name: &'static str,
    address: &'static AtomicPtr<c_void>,
    /// Never called by this: it keeps the linker from looking for the name elsewhere.
    #[allow(dead_code)]
    here: unsafe extern "C" fn(),
}

/// Makes the functions `$name`: their arguments and results pass through untouched. A function of a library whose
/// address is not known answers with `$status`, an error of that library.
macro_rules! functions {
    ($($library:literal or $status:literal => [$($name:ident),* $(,)?],)*) => {
        $(
            $(
                #[allow(non_snake_case)]
                mod $name {
                    use super::*;

                    extern "C" fn unknown() -> c_int {
                        $status
                    }

                    pub static ADDRESS: AtomicPtr<c_void> = AtomicPtr::new(unknown as extern "C" fn() -> c_int as *mut c_void);

                    // SAFETY: no library that this program is linked with has a function of this name. It touches neither the
                    // arguments nor the stack, so that whatever its caller passes arrives, and returns as the other does.
                    #[unsafe(naked)]
                    #[unsafe(no_mangle)]
                    pub unsafe extern "C" fn $name() {
                        #[cfg(target_arch = "x86_64")]
                        naked_asm!("jmp qword ptr [rip + {address}]", address = sym ADDRESS);
                        // The register that the procedure call standard leaves to code between caller and callee.
                        #[cfg(target_arch = "aarch64")]
                        naked_asm!(
                            "adrp x16, {address}",
                            "ldr x16, [x16, :lo12:{address}]",
                            "br x16",
                            address = sym ADDRESS
                        );
                    }
                }
            )*
        )*

        static FUNCTIONS: &[Function] = &[
            $($(
                Function {
                    library: $library,
                    name: stringify!($name),
                    address: &$name::ADDRESS,
                    here: $name::$name,
                },
            )*)*
        ];
    };
}

functions! {
    // CUDA_ERROR_NOT_FOUND
    "libcuda.so.1" or 500 => [
        cuCtxCreate_v3, cuCtxCreate_v4, cuCtxDestroy_v2, cuCtxGetCacheConfig, cuCtxGetCurrent, cuCtxGetLimit,
        cuCtxGetStreamPriorityRange, cuCtxSetCacheConfig, cuCtxSetCurrent, cuCtxSetFlags, cuCtxSetLimit,
        cuCtxSynchronize, cuDestroyExternalMemory, cuDeviceGet, cuDeviceGetAttribute, cuDeviceGetCount,
        cuDeviceGetDefaultMemPool, cuDeviceGetMemPool, cuDeviceGetName, cuDeviceGetUuid, cuDeviceGetUuid_v2,
        cuDevicePrimaryCtxRelease_v2, cuDevicePrimaryCtxRetain, cuDeviceSetMemPool, cuDeviceTotalMem_v2,
        cuEventCreate, cuEventDestroy_v2, cuEventElapsedTime, cuEventElapsedTime_v2, cuEventQuery,
        cuEventRecord, cuEventSynchronize, cuExternalMemoryGetMappedBuffer, cuFuncGetAttribute,
        cuFuncSetAttribute, cuFuncSetCacheConfig, cuGetErrorName, cuGetErrorString, cuGraphClone,
        cuGraphDestroy, cuGraphExecDestroy, cuGraphInstantiateWithFlags, cuGraphLaunch, cuGraphUpload,
        cuImportExternalMemory, cuInit, cuLaunchCooperativeKernel, cuLaunchHostFunc, cuLaunchKernel,
        cuMemAdvise_v2, cuMemAllocAsync, cuMemAllocFromPoolAsync, cuMemAllocManaged, cuMemAlloc_v2,
        cuMemFreeAsync, cuMemFreeHost, cuMemFree_v2, cuMemGetInfo_v2, cuMemHostAlloc, cuMemPoolCreate,
        cuMemPoolDestroy, cuMemPoolGetAttribute, cuMemPoolSetAttribute, cuMemPoolTrimTo, cuMemPrefetchAsync_v2,
        cuMemcpyDtoDAsync_v2, cuMemcpyDtoD_v2, cuMemcpyDtoHAsync_v2, cuMemcpyDtoH_v2, cuMemcpyHtoDAsync_v2,
        cuMemcpyHtoD_v2, cuMemcpyPeerAsync, cuMemsetD8Async, cuMemsetD8_v2, cuModuleGetFunction,
        cuModuleGetGlobal_v2, cuModuleLoad, cuModuleLoadData, cuModuleUnload,
        cuOccupancyAvailableDynamicSMemPerBlock, cuOccupancyMaxActiveBlocksPerMultiprocessor,
        cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags, cuOccupancyMaxActiveClusters,
        cuOccupancyMaxPotentialBlockSize, cuOccupancyMaxPotentialBlockSizeWithFlags,
        cuOccupancyMaxPotentialClusterSize, cuProfilerStart, cuProfilerStop, cuStreamAttachMemAsync,
        cuStreamBeginCapture_v2, cuStreamCreate, cuStreamCreateWithPriority, cuStreamDestroy_v2,
        cuStreamEndCapture, cuStreamIsCapturing, cuStreamSynchronize, cuStreamWaitEvent,
    ],
    // CUBLAS_STATUS_NOT_SUPPORTED
    "libcublas.so.13" or 15 => [
        cublasCreate_v2, cublasDasum_v2, cublasDestroy_v2, cublasDgemmStridedBatched, cublasDgemm_v2,
        cublasDgemv_v2, cublasGemmEx, cublasGemmGroupedBatchedEx, cublasGemmStridedBatchedEx,
        cublasGetPointerMode_v2, cublasSasum_v2, cublasSetPointerMode_v2, cublasSetStream_v2,
        cublasSgemmStridedBatched, cublasSgemm_v2, cublasSgemv_v2,
    ],
    // CUBLAS_STATUS_NOT_SUPPORTED
    "libcublasLt.so.13" or 15 => [
        cublasLtCreate, cublasLtDestroy, cublasLtLoggerOpenFile, cublasLtLoggerSetLevel, cublasLtMatmul,
        cublasLtMatmulAlgoGetHeuristic, cublasLtMatmulDescCreate, cublasLtMatmulDescDestroy,
        cublasLtMatmulDescSetAttribute, cublasLtMatmulPreferenceCreate, cublasLtMatmulPreferenceDestroy,
        cublasLtMatmulPreferenceSetAttribute, cublasLtMatrixLayoutCreate, cublasLtMatrixLayoutDestroy,
        cublasLtMatrixLayoutSetAttribute,
    ],
    // CURAND_STATUS_INTERNAL_ERROR
    "libcurand.so.10" or 999 => [
        curandCreateGenerator, curandDestroyGenerator, curandGenerate, curandGenerateLogNormal,
        curandGenerateLogNormalDouble, curandGenerateLongLong, curandGenerateNormal, curandGenerateNormalDouble,
        curandGeneratePoisson, curandGenerateUniform, curandGenerateUniformDouble, curandSetGeneratorOffset,
        curandSetPseudoRandomGeneratorSeed, curandSetStream,
    ],
    // NVRTC_ERROR_INTERNAL_ERROR
    "libnvrtc.so.13" or 11 => [
        nvrtcCompileProgram, nvrtcCreateProgram, nvrtcDestroyProgram, nvrtcGetPTX, nvrtcGetPTXSize,
        nvrtcGetProgramLog, nvrtcGetProgramLogSize,
    ],
}

/// Finds all functions in the driver and the libraries that [`libraries::load`] loaded.
///
/// # Errors
/// For a driver that is not there. A function that a library lacks answers with an error when it is called.
pub fn resolve(driver: &Path) -> Result<(), String> {
    // SAFETY: it was loaded before, by the survey.
    let driver = unsafe { Library::new(driver) }
        .map_err(|cause| format!("{DRIVER} can't be loaded: {}", words(&cause)))?;
    for function in FUNCTIONS {
        let found = match function.library == DRIVER {
            // SAFETY: the address is only kept; who calls the function knows what it takes.
            true => unsafe { driver.get::<*mut c_void>(function.name.as_bytes()) }
                .ok()
                .map(|symbol| symbol.into_raw()),
            false => libraries::address(function.library, function.name),
        };
        if let Some(address) = found {
            function.address.store(address, Ordering::Release);
        }
    }
    // It stays: its functions have been given out.
    std::mem::forget(driver);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    unsafe extern "C" {
        fn nvrtcGetProgramLog(program: *mut c_void, log: *mut u8) -> c_int;
    }

    #[test]
    fn a_function_that_was_not_found_answers_with_an_error() {
        let mut log = 0;
        // SAFETY: as `nvrtc.h` declares it; a program that is none is an error there, too.
        let status = unsafe { nvrtcGetProgramLog(std::ptr::null_mut(), &mut log) };
        assert_ne!(status, 0);
    }

    #[test]
    fn arguments_and_results_pass_through_untouched() {
        unsafe extern "C" {
            // Of `cuda.h`'s eleven arguments five lie on the stack.
            fn cuLaunchKernel(
                a: *const c_void,
                b: u32,
                c: u32,
                d: u32,
                e: u32,
                f: u32,
                g: u32,
                h: u32,
                i: *const c_void,
                j: *const c_void,
                k: *const c_void,
            ) -> c_int;
        }
        let folder = tempfile::tempdir().unwrap();
        let (source, library) = (folder.path().join("cuda.c"), folder.path().join("libcuda.so.1"));
        let text = "int cuLaunchKernel(long a, int b, int c, int d, int e, int f, int g, int h, long i, long j, long k) {
            return a == 1 && b == 2 && c == 3 && d == 4 && e == 5 && f == 6 && g == 7 && h == 8 && i == 9 && j == 10 ? k : -1;
        }";
        std::fs::write(&source, text).unwrap();
        let compiled = std::process::Command::new("cc")
            .args(["-shared", "-fPIC", "-o"])
            .args([&library, &source])
            .status();
        assert!(compiled.expect("a C compiler").success());
        resolve(&library).unwrap();
        let pointer = |number: usize| std::ptr::without_provenance::<c_void>(number);
        // SAFETY: what is called is the function above, which takes numbers.
        let status = unsafe {
            cuLaunchKernel(
                pointer(1),
                2,
                3,
                4,
                5,
                6,
                7,
                8,
                pointer(9),
                pointer(10),
                pointer(11),
            )
        };
        assert_eq!(status, 11);
    }

    #[test]
    fn each_function_is_listed_once() {
        let mut names: Vec<_> = FUNCTIONS.iter().map(|function| function.name).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
