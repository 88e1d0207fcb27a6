//! The evaluator against the definition, bit for bit, on every instruction set that this machine has.

use proptest::prelude::*;

use super::block::ROWS;
use super::evaluator::{Column, Evaluator, Features, Scratch, Sums};
use super::forest::{Aggregate, Forest, Node, Split, Test, Tree, Width};
use crate::model::isa::Isa;

/// Numbers from a seed (SplitMix64, Steele et al. 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// What forests are made of.
#[derive(Clone, Debug)]
struct Kind {
    features: usize,
    targets: usize,
    trees: usize,
    splits: usize,
    /// Percent of splits that go on where the last one was: 0 makes bushes, 100 chains.
    chain: u64,
    /// Distinct thresholds, about.
    thresholds: usize,
    /// Percent of splits that are sets, and that take zero for missing.
    sets: u64,
    zero_is_missing: u64,
    gives: GivesKind,
    aggregate: Aggregate,
    compared_in: Width,
    summed_in: Width,
}

#[derive(Clone, Copy, Debug)]
enum GivesKind {
    /// A weight for one target, the tree's.
    One,
    /// A weight for every target.
    All,
    /// Some weights, for any targets, perhaps none or two for the same.
    Some,
}

const ODD: [f64; 18] = [
    0.0,
    -0.0,
    f64::INFINITY,
    f64::NEG_INFINITY,
    1e-35,
    -1e-35,
    1e-36,
    1e-44,
    -1e-44,
    1e300,
    2e300,
    -1e300,
    5e-324,
    f32::MAX as f64,
    f32::MIN_POSITIVE as f64,
    2_147_483_648.0,
    -1.0,
    -0.5,
];

fn rounded(value: f64, width: Width) -> f64 {
    match width {
        Width::F32 => f64::from(value as f32),
        Width::F64 => value,
    }
}

/// A neighbour in the type: up, down, or the number itself.
fn near(value: f64, width: Width, random: &mut Random) -> f64 {
    match (random.below(3), width) {
        (0, _) => value,
        (1, Width::F32) => (value as f32).next_up().into(),
        (_, Width::F32) => (value as f32).next_down().into(),
        (1, Width::F64) => value.next_up(),
        (_, Width::F64) => value.next_down(),
    }
}

fn threshold(kind: &Kind, random: &mut Random) -> f64 {
    let value = match random.below(20) {
        0 => ODD[random.below(ODD.len())],
        1 => f64::NAN,
        _ => (random.below(kind.thresholds) as f64 - 5.0) / 3.0,
    };
    rounded(value, kind.compared_in)
}

fn weights(kind: &Kind, own: u32, random: &mut Random) -> Vec<(u32, f64)> {
    let mut weight = || {
        let value = match random.below(16) {
            0 => 0.0,
            1 => -0.0,
            2 => 1e30,
            3 => 1e-40,
            _ => random.unit() - 0.5,
        };
        rounded(value, kind.summed_in)
    };
    match kind.gives {
        GivesKind::One => vec![(own, weight())],
        GivesKind::All => (0..kind.targets as u32)
            .map(|target| (target, weight()))
            .collect(),
        GivesKind::Some => {
            let weights: Vec<f64> = (0..4).map(|_| weight()).collect();
            let count = random.below(5);
            let target = |weight: &f64| (random.below(kind.targets) as u32, *weight);
            weights[..count].iter().map(target).collect()
        }
    }
}

fn tree(kind: &Kind, index: usize, random: &mut Random) -> Tree {
    let own = (index % kind.targets.max(1)) as u32;
    let splits = random.below(kind.splits + 1);
    let mut nodes = vec![None];
    let mut open = vec![0usize];
    for _ in 0..splits {
        let chosen = if random.chance(kind.chain) {
            open.len() - 1
        } else {
            random.below(open.len())
        };
        let at = open.swap_remove(chosen);
        // Which child stands first is nobody's business.
        let (left, right) = match random.chance(50) {
            true => (nodes.len(), nodes.len() + 1),
            false => (nodes.len() + 1, nodes.len()),
        };
        open.extend([left, right]);
        nodes.extend([None, None]);
        let test = if random.chance(kind.sets) {
            let mut members: Vec<u32> = (0..random.below(6)).map(|_| random.below(40) as u32).collect();
            if random.chance(20) {
                members.extend([2_000_000_000, 2_147_483_647]);
            }
            members.sort_unstable();
            members.dedup();
            Test::Member(members)
        } else {
            Test::Less(threshold(kind, random))
        };
        nodes[at] = Some(Node::Split(Split {
            feature: random.below(kind.features) as u32,
            test,
            missing_goes_left: random.chance(50),
            zero_is_missing: random.chance(kind.zero_is_missing),
            left: left as u32,
            right: right as u32,
        }));
    }
    let leaf = |node: Option<Node>| node.unwrap_or_else(|| Node::Leaf(weights(kind, own, random)));
    Tree {
        nodes: nodes.into_iter().map(leaf).collect(),
    }
}

fn forest(kind: &Kind, random: &mut Random) -> Forest {
    Forest {
        features: kind.features,
        targets: kind.targets,
        trees: (0..kind.trees).map(|index| tree(kind, index, random)).collect(),
        base: (0..kind.targets)
            .map(|_| match random.below(4) {
                0 => -0.0,
                _ => rounded(random.unit() - 0.5, kind.summed_in),
            })
            .collect(),
        aggregate: kind.aggregate,
        compared_in: kind.compared_in,
        summed_in: kind.summed_in,
    }
}

fn rows(kind: &Kind, rows: usize, random: &mut Random) -> Vec<f64> {
    let value = |_| match random.below(10) {
        0 => f64::NAN,
        1 => rounded(ODD[random.below(ODD.len())], kind.compared_in),
        2 => rounded(random.below(45) as f64 - 2.0, kind.compared_in),
        3 => rounded(random.unit() * 20.0 - 5.0, kind.compared_in),
        _ => {
            let value = threshold(kind, random);
            near(value, kind.compared_in, random)
        }
    };
    (0..rows * kind.features).map(value).collect()
}

/// Bits, but for the many ways to write NaN.
fn bits(value: f64) -> u64 {
    if value.is_nan() {
        f64::NAN.to_bits()
    } else {
        value.to_bits()
    }
}

/// Fails unless evaluators of all kinds give what the definition says.
fn agree(forest: &Forest, values: &[f64], count: usize) -> Result<(), TestCaseError> {
    let expected: Vec<f64> = (0..count)
        .flat_map(|row| forest.score_row(&values[row * forest.features..][..forest.features]))
        .collect();
    let narrow: Vec<f32> = values.iter().map(|&value| value as f32).collect();
    let by_feature: Vec<Vec<f64>> = (0..forest.features)
        .map(|feature| {
            (0..count)
                .map(|row| values[row * forest.features + feature])
                .collect()
        })
        .collect();
    let by_feature_narrow: Vec<Vec<f32>> = by_feature
        .iter()
        .map(|column| column.iter().map(|&value| value as f32).collect())
        .collect();
    let mut columns: Vec<Column> = by_feature.iter().map(|column| Column::F64(column)).collect();
    if forest.compared_in == Width::F32 {
        for (column, narrow) in columns.iter_mut().zip(&by_feature_narrow).step_by(2) {
            *column = Column::F32(narrow);
        }
    }
    let mut layouts = vec![Features::RowsF64(values), Features::Columns(&columns)];
    if forest.compared_in == Width::F32 {
        layouts.push(Features::RowsF32(&narrow));
    }
    let mut scratch = Scratch::default();
    for instructions in Isa::available() {
        let evaluator = Evaluator::with(forest, instructions).expect("a sound forest");
        for features in &layouts {
            let mut wide = vec![f64::MAX; count * forest.targets];
            evaluator.score(*features, count, &mut scratch, Sums::F64(&mut wide));
            let mut short = vec![f32::MAX; count * forest.targets];
            evaluator.score(*features, count, &mut scratch, Sums::F32(&mut short));
            for (at, &expected) in expected.iter().enumerate() {
                let row = at / forest.targets;
                prop_assert_eq!(
                    bits(expected),
                    bits(wide[at]),
                    "{:?}, row {}: {:?}",
                    instructions,
                    row,
                    wide[at]
                );
                let expected = f64::from(expected as f32);
                prop_assert_eq!(
                    bits(expected),
                    bits(short[at].into()),
                    "{:?}, row {}",
                    instructions,
                    row
                );
            }
        }
    }
    Ok(())
}

fn width() -> impl Strategy<Value = Width> {
    prop_oneof![Just(Width::F32), Just(Width::F64)]
}

prop_compose! {
    fn kinds(splits: std::ops::RangeInclusive<usize>, trees: usize, thresholds: usize)(
        (features, targets) in (1usize..8, 1usize..6),
        trees in 0..=trees,
        splits in splits,
        (chain, sets) in (prop_oneof![Just(0), Just(30), Just(95), Just(100)], prop_oneof![Just(0), Just(15), Just(60)]),
        thresholds in 1..=thresholds,
        zero_is_missing in prop_oneof![Just(0), Just(25), Just(100)],
        gives in prop_oneof![Just(GivesKind::One), Just(GivesKind::All), Just(GivesKind::Some)],
        aggregate in prop_oneof![
            Just(Aggregate::BaseFirst),
            Just(Aggregate::BaseLast),
            Just(Aggregate::Average),
            Just(Aggregate::Min),
            Just(Aggregate::Max),
        ],
        (compared_in, summed_in) in (width(), width()),
    ) -> Kind {
        Kind {
            features, targets, trees, splits, chain, thresholds, sets, zero_is_missing, gives, aggregate,
            compared_in, summed_in,
        }
    }
}

/// Numbers of rows around those of a block.
fn counts() -> impl Strategy<Value = usize> {
    prop_oneof![
        Just(0),
        Just(1),
        Just(ROWS - 1),
        Just(ROWS),
        Just(ROWS + 1),
        2..100usize,
        2..3 * ROWS
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn small_trees_score_as_defined(kind in kinds(0..=9, 12, 40), count in counts(), seed: u64) {
        let mut random = Random(seed);
        let forest = forest(&kind, &mut random);
        let values = rows(&kind, count, &mut random);
        agree(&forest, &values, count)?;
    }

    #[test]
    fn trees_of_up_to_256_leaves_score_as_defined(kind in kinds(1..=255, 6, 900), count in counts(), seed: u64) {
        let mut random = Random(seed);
        let forest = forest(&kind, &mut random);
        let values = rows(&kind, count, &mut random);
        agree(&forest, &values, count)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn deep_trees_among_others_score_as_defined(kind in kinds(250..=3000, 5, 5000), count in counts(), seed: u64) {
        let mut random = Random(seed);
        let forest = forest(&kind, &mut random);
        let values = rows(&kind, count, &mut random);
        agree(&forest, &values, count)?;
    }
}

/// A split that goes right from 1 on.
fn split(feature: u32, left: u32, right: u32) -> Node {
    Node::Split(Split {
        feature,
        test: Test::Less(1.0),
        missing_goes_left: true,
        zero_is_missing: false,
        left,
        right,
    })
}

fn one_tree(nodes: Vec<Node>) -> Forest {
    Forest {
        features: 2,
        targets: 1,
        trees: vec![Tree { nodes }],
        base: vec![0.5],
        aggregate: Aggregate::BaseFirst,
        compared_in: Width::F32,
        summed_in: Width::F32,
    }
}

#[test]
fn forests_that_are_broken_are_refused_with_the_reason() {
    let leaf = || Node::Leaf(vec![(0, 1.0)]);
    let whole = one_tree(vec![split(1, 1, 2), leaf(), leaf()]);
    Evaluator::new(&whole).expect("a sound forest");
    let with = |change: &dyn Fn(&mut Forest)| {
        let mut forest = whole.clone();
        change(&mut forest);
        forest
    };
    let with_test = |test: Test| {
        with(&|forest| {
            if let Node::Split(split) = &mut forest.trees[0].nodes[0] {
                split.test = test.clone();
            }
        })
    };
    let cases = [
        (one_tree(vec![]), "no nodes"),
        (one_tree(vec![split(2, 1, 2), leaf(), leaf()]), "feature 2 of 2"),
        (
            one_tree(vec![split(0, 1, 3), leaf(), leaf()]),
            "node 3 in the wrong place",
        ),
        (
            one_tree(vec![split(0, 1, 0), leaf(), leaf()]),
            "node 0 in the wrong place",
        ),
        (
            one_tree(vec![split(0, 1, 1), leaf(), leaf()]),
            "node 1 in the wrong place",
        ),
        (
            one_tree(vec![split(0, 1, 2), split(0, 2, 3), leaf(), leaf()]),
            "node 2 in the wrong place",
        ),
        (one_tree(vec![Node::Leaf(vec![(1, 1.0)])]), "target 1 of 1"),
        (one_tree(vec![Node::Leaf(vec![(0, 0.1)])]), "weight 0.1"),
        (
            with(&|forest| forest.base.push(0.0)),
            "2 base values for 1 targets",
        ),
        (with(&|forest| forest.base[0] = 0.1), "base value 0.1"),
        (with(&|forest| forest.features = 1 << 40), "too large"),
        (with_test(Test::Less(0.1)), "threshold 0.1"),
        (with_test(Test::Member(vec![2, 1])), "not sorted"),
    ];
    for (forest, reason) in cases {
        let error = Evaluator::new(&forest).expect_err(reason);
        assert!(error.to_string().contains(reason), "{error} doesn't say {reason}");
    }
}

/// Each column costs memory for every block.
#[test]
fn more_columns_than_a_block_may_have_are_refused() {
    let stump = |feature| Tree {
        nodes: vec![
            split(feature, 1, 2),
            Node::Leaf(vec![]),
            Node::Leaf(vec![(0, 1.0)]),
        ],
    };
    let stumps = |count: u32| Forest {
        features: count as usize,
        trees: (0..count).map(stump).collect(),
        ..one_tree(vec![])
    };
    Evaluator::new(&stumps(65_536)).expect("just as many as may be");
    let error = Evaluator::new(&stumps(65_537)).expect_err("one more");
    assert!(error.to_string().contains("65537 columns"), "{error}");
}

#[test]
fn forests_without_trees_features_or_targets_score_too() {
    let nothing = Forest {
        features: 0,
        targets: 0,
        trees: vec![],
        base: vec![],
        aggregate: Aggregate::Average,
        compared_in: Width::F64,
        summed_in: Width::F64,
    };
    agree(&nothing, &[], 3).expect("no numbers");
    let base = Forest {
        targets: 2,
        base: vec![0.25, -0.0],
        aggregate: Aggregate::BaseLast,
        ..nothing
    };
    agree(&base, &[], 3).expect("the base values");
    let leaf = Tree {
        nodes: vec![Node::Leaf(vec![(1, 0.5)])],
    };
    let lone = Forest {
        trees: vec![leaf.clone(), leaf],
        ..base
    };
    agree(&lone, &[], 3).expect("sums of lone leaves");
}

/// In another order, or a wider type, the small leaves would count.
#[test]
fn sums_are_rounded_after_each_tree() {
    let small = f64::from(f32::EPSILON) / 2.0;
    let leaf = |weight| Tree {
        nodes: vec![Node::Leaf(vec![(0, weight)])],
    };
    let forest = Forest {
        trees: vec![leaf(1.0), leaf(small), leaf(small)],
        base: vec![0.0],
        ..one_tree(vec![])
    };
    let evaluator = Evaluator::new(&forest).expect("a sound forest");
    let mut out = [0.0];
    evaluator.score(
        Features::RowsF32(&[0.0, 0.0]),
        1,
        &mut Scratch::default(),
        Sums::F64(&mut out),
    );
    assert_eq!(out, [1.0]);
}

/// Adding a positive zero would make the sum positive.
#[test]
fn a_leaf_that_gives_nothing_leaves_a_negative_zero_as_it_is() {
    let nodes = vec![split(0, 1, 2), Node::Leaf(vec![]), Node::Leaf(vec![(0, 1.0)])];
    for summed_in in [Width::F32, Width::F64] {
        let forest = Forest {
            base: vec![-0.0],
            summed_in,
            ..one_tree(nodes.clone())
        };
        agree(&forest, &[0.0, 0.0, 1.0, 0.0, f64::NAN, 0.0], 3).expect("both leaves");
    }
}
