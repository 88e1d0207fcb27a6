//! Candle on NVIDIA's GPUs: the weights once per model, and networks that workers take turns at.
//!
//! Every model is on one GPU and has a stream of its own, where what it is given is computed in order; models on one GPU
//! run beside each other. Candle copies what a batch consists of from ordinary memory, before the first kernel is queued:
//! copies of one model overlap with what another computes, not with its own.

use candle_core::Device;
use std::sync::Arc;

use super::CandleNetworks;
use crate::error::{Error, Result};
use crate::model::OpenOptions;
use crate::model::device::turns::{self, Turns};
use crate::model::device::{self, CANDLE_CAPABILITY, Gpu, Needs, Place};
use crate::model::network::{Named, Network, Networks};

/// What Candle calls, beside the driver.
const NEEDS: Needs = Needs {
    backend: "Candle",
    capability: CANDLE_CAPABILITY,
    libraries: &[
        "libcublasLt.so.13",
        "libcublas.so.13",
        "libcurand.so.10",
        "libnvrtc.so.13",
    ],
};

/// Where the job's networks run.
///
/// # Errors
/// `Config`, for GPUs that were asked for and can't be had.
pub fn place(options: &OpenOptions) -> Result<Place> {
    if cfg!(feature = "cuda") {
        return device::place(options, Ok(&NEEDS));
    }
    let why = "this build of Candle computes on processors";
    let hint = "set model.device to cpu or auto, or build with --features cuda";
    device::place(options, Err((why.to_string(), hint.to_string())))
}

/// Networks on GPUs.
pub struct OnGpus {
    gpus: Vec<Gpu>,
    /// What is the same of all.
    first: Arc<CandleNetworks>,
    networks: Arc<Turns<Box<dyn Network>>>,
}

impl OnGpus {
    /// Puts models on `gpus`, one after the other; `open` loads the weights onto a device.
    ///
    /// # Errors
    /// What `open` fails with; `Config` for a GPU that can't be used after all.
    pub fn open(
        gpus: Vec<Gpu>,
        options: &OpenOptions,
        open: impl Fn(Device) -> Result<Arc<CandleNetworks>>,
    ) -> Result<OnGpus> {
        let count = turns::models(options.gpus.models, gpus.len());
        let mut opened = Vec::with_capacity(count);
        for gpu in gpus.iter().cycle().take(count) {
            opened.push(open(device_of(gpu)?)?);
        }
        let first = Arc::clone(&opened[0]);
        let networks = opened.into_iter().map(|networks| networks.network(1));
        Ok(OnGpus {
            gpus,
            first,
            networks: Turns::of(networks.collect::<Result<Vec<_>>>()?),
        })
    }
}

/// With a stream of its own: Candle's other one belongs to the thread that made it.
fn device_of(gpu: &Gpu) -> Result<Device> {
    Device::new_cuda_with_stream(gpu.ordinal as usize).map_err(|cause| {
        Error::config(format!("model.device: {gpu} can't be had"))
            .with_source(cause)
            .with_hint("look at what nvidia-smi says of it, or set model.device to cpu")
    })
}

impl Networks for OnGpus {
    fn describe(&self) -> String {
        let gpus: Vec<_> = self.gpus.iter().map(Gpu::to_string).collect();
        format!("candle {} on {}", super::VERSION, gpus.join(", "))
    }

    fn inputs(&self) -> &[String] {
        self.first.inputs()
    }

    fn is_on_gpus(&self) -> bool {
        true
    }

    fn network(self: Arc<Self>, _threads: usize) -> Result<Box<dyn Network>> {
        Ok(Box::new(InTurn {
            networks: Arc::clone(&self.networks),
        }))
    }
}

/// A worker's way to the networks.
struct InTurn {
    networks: Arc<Turns<Box<dyn Network>>>,
}

impl Network for InTurn {
    fn run(&mut self, inputs: Vec<Named>) -> Result<Vec<Named>> {
        self.networks.with(|network| network.run(inputs))
    }
}
