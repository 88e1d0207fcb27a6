//! Tree ensembles on one thread: forests grown from a seed in the shapes that models have.

use criterion::{Criterion, Throughput};

use floe::model::isa::Isa;
use floe::model::trees::forest::{Aggregate, Forest, Node, Split, Test, Tree, Width};
use floe::model::trees::{Column, Evaluator, Features, Scratch, Sums};

use crate::table::Random;

const ROWS: usize = 16_384;

/// A forest to grow.
struct Shape {
    name: &'static str,
    features: usize,
    targets: usize,
    trees: usize,
    /// Leaves of a tree, from and to.
    leaves: (usize, usize),
    width: Width,
}

const SHAPES: [Shape; 5] = [
    // XGBoost on the wine rows: 100 rounds of three classes, 3.2 leaves on average.
    Shape {
        name: "wine",
        features: 13,
        targets: 3,
        trees: 300,
        leaves: (1, 5),
        width: Width::F32,
    },
    // The flights model: depth 6.
    Shape {
        name: "flights",
        features: 12,
        targets: 1,
        trees: 100,
        leaves: (50, 64),
        width: Width::F32,
    },
    // LightGBM with its defaults.
    Shape {
        name: "31_leaves_f64",
        features: 12,
        targets: 1,
        trees: 100,
        leaves: (31, 31),
        width: Width::F64,
    },
    // A random forest.
    Shape {
        name: "2000_leaves",
        features: 12,
        targets: 1,
        trees: 100,
        leaves: (2000, 2000),
        width: Width::F32,
    },
    Shape {
        name: "20000_leaves",
        features: 30,
        targets: 1,
        trees: 20,
        leaves: (20_000, 20_000),
        width: Width::F32,
    },
];

/// Trees over features in 0..1: of three leaves picked at random, the one that most rows reach goes on.
fn grow(shape: &Shape) -> Forest {
    let mut random = Random(1);
    let mut trees = vec![];
    for index in 0..shape.trees {
        let (from, to) = shape.leaves;
        let leaves = from + random.next() as usize % (to - from + 1);
        let mut nodes: Vec<Option<Node>> = vec![None];
        let mut open = vec![(0, vec![(0.0, 1.0); shape.features])];
        while open.len() < leaves {
            let volume = |index: &usize| open[*index].1.iter().map(|(from, to)| to - from).product::<f64>();
            let picked = [(); 3].map(|()| random.next() as usize % open.len());
            let largest = picked.into_iter().max_by(|a, b| volume(a).total_cmp(&volume(b)));
            let (at, mut on_left): (usize, Vec<(f64, f64)>) = open.swap_remove(largest.expect("three"));
            let feature = random.next() as usize % shape.features;
            let (low, high) = on_left[feature];
            let threshold = f64::from((low + (high - low) * (0.2 + 0.6 * random.unit())) as f32);
            let mut on_right = on_left.clone();
            on_left[feature].1 = threshold;
            on_right[feature].0 = threshold;
            let left = nodes.len();
            nodes.extend([None, None]);
            open.extend([(left, on_left), (left + 1, on_right)]);
            nodes[at] = Some(Node::Split(Split {
                feature: feature as u32,
                test: Test::Less(threshold),
                missing_goes_left: random.unit() < 0.5,
                zero_is_missing: false,
                left: left as u32,
                right: left as u32 + 1,
            }));
        }
        let target = (index % shape.targets) as u32;
        let mut leaf = || Node::Leaf(vec![(target, f64::from(random.unit() as f32))]);
        let nodes = nodes
            .into_iter()
            .map(|node| node.unwrap_or_else(&mut leaf))
            .collect();
        trees.push(Tree { nodes });
    }
    Forest {
        features: shape.features,
        targets: shape.targets,
        trees,
        base: vec![0.5; shape.targets],
        aggregate: Aggregate::BaseFirst,
        compared_in: shape.width,
        summed_in: shape.width,
    }
}

/// Rows of random features through each forest, on each instruction set that this machine has; and the definition, on a
/// hundredth of them.
pub fn trees(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("trees");
    group.sample_size(10);
    for shape in &SHAPES {
        let forest = grow(shape);
        let mut random = Random(2);
        let rows: Vec<f32> = (0..ROWS * shape.features).map(|_| random.unit() as f32).collect();
        let feature = |index| rows.iter().skip(index).step_by(shape.features).copied().collect();
        let by_feature: Vec<Vec<f32>> = (0..shape.features).map(feature).collect();
        let columns: Vec<Column> = by_feature.iter().map(|column| Column::F32(column)).collect();
        let mut out = vec![0.0; ROWS * shape.targets];
        let mut scratch = Scratch::default();

        group.throughput(Throughput::Elements(ROWS as u64));
        for instructions in Isa::available() {
            let evaluator = Evaluator::with(&forest, instructions).expect("a sound forest");
            for (layout, features) in [
                ("rows", Features::RowsF32(&rows)),
                ("columns", Features::Columns(&columns)),
            ] {
                group.bench_function(format!("{}/{instructions:?}/{layout}", shape.name), |bencher| {
                    bencher.iter(|| evaluator.score(features, ROWS, &mut scratch, Sums::F32(&mut out)));
                });
            }
        }

        let some = ROWS / 100;
        let wide: Vec<f64> = rows[..some * shape.features]
            .iter()
            .map(|&value| value.into())
            .collect();
        group.throughput(Throughput::Elements(some as u64));
        group.bench_function(format!("{}/definition", shape.name), |bencher| {
            bencher.iter(|| {
                wide.chunks_exact(shape.features)
                    .map(|row| forest.score_row(row))
                    .collect::<Vec<_>>()
            });
        });
    }
    group.finish();
}
