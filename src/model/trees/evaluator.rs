//! Evaluates forests as fast as the machine can, and exactly as [`Forest::score_row`] says.
//!
//! A forest is compiled once into an [`Evaluator`], which workers share; each brings its own [`Scratch`]. Rows go through
//! in blocks: their features become bins ([`bins`](super::bins)), each tree finds the leaves of all rows of the block
//! ([`expression`](super::expression), or [`deep`](super::deep) where there are many), and what the leaves give is added
//! to the rows' sums ([`leaves`](super::leaves)).

use super::bins::Binner;
use super::block::{Block, ROWS};
use super::compile::{self, Trees};
use super::deep::Words;
use super::expression::Bytes;
use super::forest::{Aggregate, Forest, Width};
use super::leaves::{Sum, place};
use super::run::Cells;
use super::search::Real;
use crate::error::Result;
use crate::model::isa::Isa;

/// Features of rows. What is not of the type that the forest compares in is rounded to it.
#[derive(Clone, Copy, Debug)]
pub enum Features<'a> {
    /// Row by row.
    RowsF32(&'a [f32]),
    /// Row by row.
    RowsF64(&'a [f64]),
    /// Feature by feature, each with as many numbers as there are rows.
    Columns(&'a [Column<'a>]),
}

/// A feature of rows.
#[derive(Clone, Copy, Debug)]
pub enum Column<'a> {
    /// 32 bits.
    F32(&'a [f32]),
    /// 64 bits.
    F64(&'a [f64]),
}

/// Where targets go, row by row. What is not of the type that the forest sums in is rounded from it.
#[derive(Debug)]
pub enum Sums<'a> {
    /// 32 bits.
    F32(&'a mut [f32]),
    /// 64 bits.
    F64(&'a mut [f64]),
}

/// What one worker needs while it evaluates; grows with the first call and is used again.
#[derive(Debug, Default)]
pub struct Scratch {
    bytes: Vec<Block<i8>>,
    words: Vec<u16>,
    sums_f32: Vec<Block<f32>>,
    sums_f64: Vec<Block<f64>>,
}

/// A forest that is ready to run.
#[derive(Debug)]
pub struct Evaluator {
    features: usize,
    targets: usize,
    aggregate: Aggregate,
    trees: usize,
    base: Vec<f64>,
    binner: Binners,
    compiled: AnyTrees,
    instructions: Isa,
}

#[derive(Debug)]
struct Two<C> {
    bytes: Binner<C>,
    words: Binner<C>,
}

#[derive(Debug)]
enum Binners {
    F32(Two<f32>),
    F64(Two<f64>),
}

#[derive(Debug)]
enum AnyTrees {
    F32(Trees<f32>),
    F64(Trees<f64>),
}

impl Evaluator {
    /// For the best instructions that this machine has.
    pub fn new(forest: &Forest) -> Result<Evaluator> {
        Evaluator::with(forest, Isa::best())
    }

    /// For some of the instructions that this machine has.
    pub fn with(forest: &Forest, instructions: Isa) -> Result<Evaluator> {
        assert!(
            Isa::available().contains(&instructions),
            "this machine has no {instructions:?}"
        );
        compile::check(forest)?;
        let (compiled, bytes, words) = match forest.summed_in {
            Width::F32 => {
                let (trees, bytes, words) = compile::compile(forest)?;
                (AnyTrees::F32(trees), bytes, words)
            }
            Width::F64 => {
                let (trees, bytes, words) = compile::compile(forest)?;
                (AnyTrees::F64(trees), bytes, words)
            }
        };
        let binner = match forest.compared_in {
            Width::F32 => Binners::F32(Two {
                bytes: bytes.binner(),
                words: words.binner(),
            }),
            Width::F64 => Binners::F64(Two {
                bytes: bytes.binner(),
                words: words.binner(),
            }),
        };
        Ok(Evaluator {
            features: forest.features,
            targets: forest.targets,
            aggregate: forest.aggregate,
            trees: forest.trees.len(),
            base: forest.base.clone(),
            binner,
            compiled,
            instructions,
        })
    }

    /// Features of a row.
    pub fn features(&self) -> usize {
        self.features
    }

    /// Numbers that are computed for a row.
    pub fn targets(&self) -> usize {
        self.targets
    }

    /// Computes the targets of `rows` rows.
    ///
    /// # Panics
    /// If there are not as many features or not as many places for targets as `rows` rows have.
    pub fn score(&self, features: Features<'_>, rows: usize, scratch: &mut Scratch, out: Sums<'_>) {
        let numbers = rows
            .checked_mul(self.features)
            .expect("features that are in memory");
        match features {
            Features::RowsF32(features) => assert_eq!(features.len(), numbers),
            Features::RowsF64(features) => assert_eq!(features.len(), numbers),
            Features::Columns(columns) => {
                assert_eq!(columns.len(), self.features);
                for column in columns {
                    let length = match column {
                        Column::F32(column) => column.len(),
                        Column::F64(column) => column.len(),
                    };
                    assert_eq!(length, rows);
                }
            }
        }
        let numbers = rows
            .checked_mul(self.targets)
            .expect("targets that are in memory");
        match &out {
            Sums::F32(sums) => assert_eq!(sums.len(), numbers),
            Sums::F64(sums) => assert_eq!(sums.len(), numbers),
        }
        let call = Call {
            features,
            rows,
            width: self.features,
        };
        match &self.binner {
            Binners::F32(binner) => self.compared(binner, call, scratch, out),
            Binners::F64(binner) => self.compared(binner, call, scratch, out),
        }
    }

    fn compared<C: Real>(&self, binner: &Two<C>, call: Call<'_>, scratch: &mut Scratch, out: Sums<'_>) {
        let Scratch {
            bytes,
            words,
            sums_f32,
            sums_f64,
        } = scratch;
        bytes.resize(bytes.len().max(binner.bytes.columns()), Block([0; ROWS]));
        words.resize(words.len().max(binner.words.columns() * ROWS), 0);
        let cells = CellsOfBlock { bytes, words };
        match &self.compiled {
            AnyTrees::F32(trees) => {
                sums_f32.resize(sums_f32.len().max(self.targets), Block([0.0; ROWS]));
                let sums = &mut sums_f32[..self.targets];
                self.dispatch(binner, trees, call, cells, sums, out);
            }
            AnyTrees::F64(trees) => {
                sums_f64.resize(sums_f64.len().max(self.targets), Block([0.0; ROWS]));
                let sums = &mut sums_f64[..self.targets];
                self.dispatch(binner, trees, call, cells, sums, out);
            }
        }
    }

    fn dispatch<C: Real, S: Sum>(
        &self,
        binner: &Two<C>,
        trees: &Trees<S>,
        call: Call<'_>,
        cells: CellsOfBlock<'_>,
        sums: &mut [Block<S>],
        out: Sums<'_>,
    ) {
        match self.instructions {
            Isa::Baseline => self.blocks::<false, C, S>(binner, trees, call, cells, sums, out),
            // SAFETY: `with` has made sure that this machine has these instructions.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { self.blocks_avx2(binner, trees, call, cells, sums, out) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => unsafe { self.blocks_avx512(binner, trees, call, cells, sums, out) },
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
    fn blocks_avx2<C: Real, S: Sum>(
        &self,
        binner: &Two<C>,
        trees: &Trees<S>,
        call: Call<'_>,
        cells: CellsOfBlock<'_>,
        sums: &mut [Block<S>],
        out: Sums<'_>,
    ) {
        self.blocks::<true, C, S>(binner, trees, call, cells, sums, out);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512dq,avx512vl")]
    fn blocks_avx512<C: Real, S: Sum>(
        &self,
        binner: &Two<C>,
        trees: &Trees<S>,
        call: Call<'_>,
        cells: CellsOfBlock<'_>,
        sums: &mut [Block<S>],
        out: Sums<'_>,
    ) {
        self.blocks::<true, C, S>(binner, trees, call, cells, sums, out);
    }

    /// Block after block. `AVX2`: what this is inlined into is compiled for processors that have it.
    #[inline(always)]
    fn blocks<const AVX2: bool, C: Real, S: Sum>(
        &self,
        binner: &Two<C>,
        trees: &Trees<S>,
        call: Call<'_>,
        cells: CellsOfBlock<'_>,
        sums: &mut [Block<S>],
        mut out: Sums<'_>,
    ) {
        let CellsOfBlock { bytes, words } = cells;
        let columns = binner.words.columns();
        for first in (0..call.rows).step_by(ROWS) {
            let rows = ROWS.min(call.rows - first);
            let load = |feature: u32, values: &mut Block<C>| call.load(feature as usize, first, rows, values);
            binner.bytes.fill::<AVX2, _>(load, &mut Bytes(bytes));
            if columns > 0 {
                binner.words.fill::<AVX2, _>(
                    load,
                    &mut Words {
                        columns,
                        cells: words,
                    },
                );
            }
            for (sums, base) in sums.iter_mut().zip(&self.base) {
                sums.0.fill(S::nearest(match self.aggregate {
                    Aggregate::BaseFirst => *base,
                    Aggregate::BaseLast | Aggregate::Average => 0.0,
                    Aggregate::Min => f64::INFINITY,
                    Aggregate::Max => f64::NEG_INFINITY,
                }));
            }
            trees.run::<AVX2>(
                self.aggregate.into(),
                Cells {
                    rows,
                    bytes,
                    words,
                    columns,
                },
                sums,
            );
            let numbers = first * self.targets..(first + rows) * self.targets;
            match &mut out {
                Sums::F32(out) => self.finish::<AVX2, S, f32>(sums, &mut out[numbers], |value| value as f32),
                Sums::F64(out) => self.finish::<AVX2, S, f64>(sums, &mut out[numbers], |value| value),
            }
        }
    }

    /// Makes targets of sums.
    #[inline(always)]
    fn finish<const AVX2: bool, S: Sum, T>(&self, sums: &[Block<S>], out: &mut [T], to: impl Fn(f64) -> T) {
        let round = |value: f64| S::nearest(value).wide();
        let trees = self.trees as f64;
        for (target, (sums, base)) in sums.iter().zip(&self.base).enumerate() {
            for (row, targets) in out.chunks_exact_mut(self.targets).enumerate() {
                let sum = sums.0[place::<AVX2>(row)].wide();
                targets[target] = to(match self.aggregate {
                    Aggregate::BaseFirst => sum,
                    Aggregate::Average => round(round(sum / trees) + base),
                    Aggregate::BaseLast | Aggregate::Min | Aggregate::Max => round(sum + base),
                });
            }
        }
    }
}

/// What a call asks for.
#[derive(Clone, Copy)]
struct Call<'a> {
    features: Features<'a>,
    rows: usize,
    width: usize,
}

/// Room for the bins of a block.
struct CellsOfBlock<'a> {
    bytes: &'a mut [Block<i8>],
    words: &'a mut [u16],
}

impl Call<'_> {
    /// A feature of the rows from `first` on; what lies behind them in the block stays as it is.
    #[inline(always)]
    fn load<C: Real>(&self, feature: usize, first: usize, rows: usize, values: &mut Block<C>) {
        let values = &mut values.0[..rows];
        match self.features {
            Features::RowsF32(all) => {
                let rows = all[first * self.width..][..rows * self.width].chunks_exact(self.width);
                values
                    .iter_mut()
                    .zip(rows)
                    .for_each(|(value, row)| *value = C::nearest(row[feature].into()));
            }
            Features::RowsF64(all) => {
                let rows = all[first * self.width..][..rows * self.width].chunks_exact(self.width);
                values
                    .iter_mut()
                    .zip(rows)
                    .for_each(|(value, row)| *value = C::nearest(row[feature]));
            }
            Features::Columns(columns) => match columns[feature] {
                Column::F32(column) => {
                    let column = &column[first..][..rows];
                    values
                        .iter_mut()
                        .zip(column)
                        .for_each(|(value, from)| *value = C::nearest((*from).into()));
                }
                Column::F64(column) => {
                    let column = &column[first..][..rows];
                    values
                        .iter_mut()
                        .zip(column)
                        .for_each(|(value, from)| *value = C::nearest(*from));
                }
            },
        }
    }
}
