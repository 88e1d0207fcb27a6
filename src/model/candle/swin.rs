//! Swin: attention within windows of patches, which every second layer shifts, and four patches become one between stages. After
//! `transformers/models/swin/modeling_swin.py`.

use candle_core::{Device, Tensor};

use super::encoder::Activation;
use super::image_head::ImageHead;
use super::ops::{Attention, Dense, FeedForward, Norm, sum};
use super::patches::Patches;
use super::weights::Weights;
use super::{Family, Inputs, Settings, settings};
use crate::error::{Error, Result};

/// Of the norms whose constant the configuration does not say: PyTorch's own.
const EPS: f64 = 1e-5;

/// What patches of other regions add to attention.
const APART: f32 = -100.0;

/// The network of a `config.json` of Swin.
pub fn open(settings: &Settings, weights: Weights) -> Result<Box<dyn Family>> {
    let (depths, heads) = (settings.sizes("depths")?, settings.sizes("num_heads")?);
    if depths.len() != heads.len() {
        return Err(Error::model(
            "config.json gives as many depths as num_heads in no way",
        ));
    }
    if settings.flag_or("use_absolute_embeddings", false) {
        return Err(Error::model(
            "config.json says use_absolute_embeddings, which Floe has no code for in Swin",
        ));
    }
    let first = settings.size("embed_dim")?;
    let network = weights.network("swin");
    let embeddings = network.at("embeddings");
    let mut stages = Vec::with_capacity(depths.len());
    let mut width = first;
    for (stage, (&depth, &heads)) in depths.iter().zip(&heads).enumerate() {
        let here = network.at("encoder.layers").at(stage);
        let layer = |index| {
            Layer::load(
                &here.at("blocks").at(index),
                settings,
                width,
                heads,
                index % 2 == 1,
            )
        };
        let layers = (0..depth).map(layer).collect::<Result<_>>()?;
        let is_last = stage + 1 == depths.len();
        let smaller = match is_last {
            true => None,
            false => {
                let here = here.at("downsample");
                Some(Merge {
                    norm: here.norm("norm", 4 * width, EPS)?,
                    reduction: here.dense("reduction", 4 * width, 2 * width)?,
                })
            }
        };
        stages.push(Stage { layers, smaller });
        if !is_last {
            width *= 2;
        }
    }
    Ok(Box::new(Swin {
        patches: Patches::load(&embeddings, "patch_embeddings.projection", settings, first, 4)?,
        side: settings.size_or("patch_size", 4)?,
        norm: embeddings.norm("norm", first, EPS)?,
        stages,
        last_norm: network.norm("layernorm", width, settings.number_or("layer_norm_eps", EPS))?,
        head: ImageHead::load(&weights, "classifier", settings, width)?,
    }))
}

struct Layer {
    norm_before: Norm,
    attention: Attention,
    /// By the distance of two patches of a window, `[1, heads, patches, patches]`.
    distances: Tensor,
    window: usize,
    /// Whether windows are shifted by half their side.
    shifts: bool,
    norm_after: Norm,
    feed_forward: FeedForward,
}

impl Layer {
    fn load(
        weights: &Weights,
        settings: &Settings,
        width: usize,
        heads: usize,
        shifts: bool,
    ) -> Result<Layer> {
        let window = settings.size_or("window_size", 7)?;
        let eps = settings.number_or("layer_norm_eps", EPS);
        let wide = (settings.number_or("mlp_ratio", 4.0) * width as f64) as usize;
        let head = settings::head(width, heads)?;
        let part = |name| weights.at("attention.self").linear(name, width, width);
        let parts = [part("query")?, part("key")?, part("value")?];
        let table = (2 * window - 1) * (2 * window - 1);
        let table = weights.tensor("attention.self.relative_position_bias_table", &[table, heads])?;
        let distances = distances(&table, window)
            .map_err(|cause| Error::model("positions can't be computed").with_source(cause))?;
        Ok(Layer {
            norm_before: weights.norm("layernorm_before", width, eps)?,
            attention: Attention::of_parts(
                parts,
                weights.dense("attention.output.dense", width, width)?,
                heads,
                head,
            )?,
            distances,
            window,
            shifts,
            norm_after: weights.norm("layernorm_after", width, eps)?,
            feed_forward: FeedForward {
                up: weights.dense("intermediate.dense", width, wide)?,
                activation: Activation::named(settings.word_or("hidden_act", "gelu"))?,
                gated: false,
                down: weights.dense("output.dense", wide, width)?,
            },
        })
    }

    /// `x` is `[rows, patches, width]`, its patches those of `grid`.
    fn forward(&self, x: &Tensor, grid: Grid) -> candle_core::Result<Tensor> {
        let smaller = grid.height.min(grid.width);
        if smaller < self.window {
            candle_core::bail!(
                "{} x {} patches for a window of {}",
                grid.height,
                grid.width,
                self.window
            );
        }
        // One window that has them all is not shifted.
        let shift = if self.shifts && smaller > self.window {
            self.window / 2
        } else {
            0
        };
        let windows = Windows::of(grid, self.window, shift);
        let (rows, patches, width) = x.dims3()?;
        let (count, each) = (windows.regions.len() / self.window.pow(2), self.window.pow(2));
        let normed = self.norm_before.forward(x)?;
        // What is beyond the image is a vector of zeros, behind all others.
        let normed = match windows.source.len() > patches {
            true => normed.pad_with_zeros(1, 0, 1)?,
            false => normed,
        };
        let inside = normed
            .index_select(&index(&windows.source, x.device())?, 1)?
            .reshape((rows * count, each, width))?;
        let bias = match shift {
            0 => self.distances.clone(),
            _ => {
                let apart = windows.apart(self.window);
                let apart = Tensor::from_vec(apart, (count, 1, each, each), x.device())?;
                let bias = apart.to_dtype(x.dtype())?.broadcast_add(&self.distances)?;
                bias.repeat((rows, 1, 1, 1))?
            }
        };
        let attended = self
            .attention
            .forward(&inside, Some(&bias), None)?
            .reshape((rows, count * each, width))?
            .index_select(&index(&windows.place, x.device())?, 1)?;
        let x = sum(attended, x)?;
        sum(self.feed_forward.forward(&self.norm_after.forward(&x)?)?, &x)
    }
}

/// What the distance of two patches of a window adds to attention.
fn distances(table: &Tensor, window: usize) -> candle_core::Result<Tensor> {
    let heads = table.dim(1)?;
    let patches = window * window;
    let place = |patch: usize| (patch / window, patch % window);
    let mut at = Vec::with_capacity(patches * patches);
    for from in 0..patches {
        for to in 0..patches {
            let ((y, x), (other_y, other_x)) = (place(from), place(to));
            at.push(((y + window - 1 - other_y) * (2 * window - 1) + x + window - 1 - other_x) as u32);
        }
    }
    table
        .index_select(&index(&at, table.device())?, 0)?
        .reshape((1, patches, patches, heads))?
        .permute((0, 3, 1, 2))?
        .contiguous()
}

fn index(places: &[u32], device: &Device) -> candle_core::Result<Tensor> {
    Tensor::from_slice(places, places.len(), device)
}

/// Rows and columns of patches.
#[derive(Clone, Copy, Debug)]
struct Grid {
    height: usize,
    width: usize,
}

/// How the patches of a grid lie in windows, and back.
struct Windows {
    /// The patch of each place, window by window; beyond the image the one after the last.
    source: Vec<u32>,
    /// The place of each patch.
    place: Vec<u32>,
    /// The region of each place: patches of different regions are no neighbours, and came into a window by the shift alone.
    regions: Vec<usize>,
}

impl Windows {
    fn of(grid: Grid, window: usize, shift: usize) -> Windows {
        let (down, across) = (grid.height.div_ceil(window), grid.width.div_ceil(window));
        let (height, width) = (down * window, across * window);
        let patches = grid.height * grid.width;
        let region = |at: usize, extent: usize| match at {
            _ if at < extent - window => 0,
            _ if at < extent - shift => 1,
            _ => 2,
        };
        let mut windows = Windows {
            source: Vec::with_capacity(height * width),
            place: vec![0; patches],
            regions: Vec::with_capacity(height * width),
        };
        for place in 0..height * width {
            let (of_window, within) = (place / (window * window), place % (window * window));
            let y = of_window / across * window + within / window;
            let x = of_window % across * window + within % window;
            windows.regions.push(3 * region(y, height) + region(x, width));
            let (y, x) = ((y + shift) % height, (x + shift) % width);
            if y < grid.height && x < grid.width {
                let patch = y * grid.width + x;
                windows.source.push(patch as u32);
                windows.place[patch] = place as u32;
            } else {
                windows.source.push(patches as u32);
            }
        }
        windows
    }

    /// What is added between the places of each window.
    fn apart(&self, window: usize) -> Vec<f32> {
        let mut apart = Vec::with_capacity(self.regions.len() * window * window);
        for regions in self.regions.chunks_exact(window * window) {
            for from in regions {
                apart.extend(regions.iter().map(|to| if from == to { 0.0 } else { APART }));
            }
        }
        apart
    }
}

/// Four patches become one, twice as wide.
struct Merge {
    norm: Norm,
    reduction: Dense,
}

impl Merge {
    fn forward(&self, x: &Tensor, grid: Grid) -> candle_core::Result<(Tensor, Grid)> {
        let (rows, patches, width) = x.dims3()?;
        let smaller = Grid {
            height: grid.height.div_ceil(2),
            width: grid.width.div_ceil(2),
        };
        let mut source = Vec::with_capacity(4 * smaller.height * smaller.width);
        for y in 0..smaller.height {
            for x in 0..smaller.width {
                for (down, across) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
                    let (y, x) = (2 * y + down, 2 * x + across);
                    source.push(match y < grid.height && x < grid.width {
                        true => (y * grid.width + x) as u32,
                        false => patches as u32,
                    });
                }
            }
        }
        let x = match source.len() > patches {
            true => x.pad_with_zeros(1, 0, 1)?,
            false => x.clone(),
        };
        let x = x.index_select(&index(&source, x.device())?, 1)?;
        let x = x.reshape((rows, smaller.height * smaller.width, 4 * width))?;
        Ok((self.reduction.forward(&self.norm.forward(&x)?)?, smaller))
    }
}

struct Stage {
    layers: Vec<Layer>,
    smaller: Option<Merge>,
}

struct Swin {
    patches: Patches,
    /// Of a patch, in pixels.
    side: usize,
    norm: Norm,
    stages: Vec<Stage>,
    last_norm: Norm,
    head: ImageHead,
}

impl Family for Swin {
    fn inputs(&self) -> &'static [&'static str] {
        &["pixel_values"]
    }

    fn forward(&self, inputs: &Inputs) -> candle_core::Result<Vec<(&'static str, Tensor)>> {
        let (height, width) = match inputs.find("pixel_values")?.shape.as_slice() {
            &[_, _, height, width] => (height, width),
            shape => candle_core::bail!("pixel_values of {shape:?}"),
        };
        if !height.is_multiple_of(self.side) || !width.is_multiple_of(self.side) {
            candle_core::bail!(
                "images of {height} x {width} pixels have no whole patches of {}",
                self.side
            );
        }
        let mut grid = Grid {
            height: height / self.side,
            width: width / self.side,
        };
        let mut x = self.norm.forward(&self.patches.forward(inputs)?)?;
        for stage in &self.stages {
            x = stage
                .layers
                .iter()
                .try_fold(x, |x, layer| layer.forward(&x, grid))?;
            if let Some(merge) = &stage.smaller {
                (x, grid) = merge.forward(&x, grid)?;
            }
        }
        let x = self.last_norm.forward(&x)?;
        let pooled = x.mean(1)?;
        self.head.outputs(x, pooled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_patch_has_one_place_in_shifted_windows_whether_they_fit_or_not() {
        for (height, width, window, shift) in [(8, 8, 4, 0), (8, 12, 4, 2), (7, 9, 4, 2), (5, 6, 3, 1)] {
            let windows = Windows::of(Grid { height, width }, window, shift);
            for (patch, place) in windows.place.iter().enumerate() {
                assert_eq!(windows.source[*place as usize] as usize, patch);
            }
            let beyond = windows
                .source
                .iter()
                .filter(|patch| **patch as usize == height * width);
            assert_eq!(beyond.count(), windows.source.len() - height * width);
        }
    }

    #[test]
    fn patches_that_only_the_shift_brought_together_are_apart() {
        // 4 x 4 patches in windows of 2, shifted by 1: the last window has the four corners.
        let windows = Windows::of(Grid { height: 4, width: 4 }, 2, 1);
        assert_eq!(windows.source[12..], [15, 12, 3, 0]);
        let apart = windows.apart(2);
        assert!(apart[..16].iter().all(|bias| *bias == 0.0));
        let corners: Vec<f32> = (0..16).map(|at| if at % 5 == 0 { 0.0 } else { APART }).collect();
        assert_eq!(apart[48..], corners);
    }
}
