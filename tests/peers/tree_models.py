"""Makes models of trees with the libraries that people use, and what those libraries predict.

    tree_models.py FAMILY FOLDER        FAMILY: xgboost, lightgbm, onnx; seeds for small models to damage

Every model gets a folder of its own: the model file, `rows.bin` (features, row by row, float64) and `case.json`, which
says what each function returns and where that lies. Rows are chosen to be awkward: thresholds of the model and the numbers
beside them, missing values, infinities, zeros of both signs, tiny numbers. Seeds are fixed.
"""

import json
import pathlib
import sys

import numpy as np

ROWS = 1500


def training(features, seed, missing=0.0, categories=()):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(600, features)).astype(np.float32).astype(np.float64)
    x[:, 0] = np.round(x[:, 0] * 4) / 4
    for column, count in categories:
        x[:, column] = rng.integers(0, count, len(x))
    signal = x[:, 0] * 2 + np.sin(3 * x[:, 1]) + np.where(x[:, 2] > 0, x[:, 3], -1) + rng.normal(size=len(x)) * 0.1
    for column, _ in categories:
        signal = signal + (x[:, column] % 3) - 1
    x[rng.random(x.shape) < missing] = np.nan
    return x, signal


def awkward(x, thresholds, seed, categories=(), infinities=True, dtype=np.float32):
    """Rows around `thresholds`, a list of (feature, threshold)."""
    rng = np.random.default_rng(seed)
    rows = x[rng.integers(0, len(x), ROWS)].copy()
    if thresholds:
        features = np.array([feature for feature, _ in thresholds])
        exactly = np.array([threshold for _, threshold in thresholds], dtype)
        beside = np.stack([exactly, np.nextafter(exactly, dtype(np.inf)), np.nextafter(exactly, dtype(-np.inf))])
        for _ in range(3):
            picks = rng.integers(0, len(thresholds), ROWS)
            rows[np.arange(ROWS), features[picks]] = beside[rng.integers(0, 3, ROWS), picks]
    odd = [np.nan, 0.0, -0.0, 1e-35, -1e-35, 1.1e-35, 1e-40, 1e30, -1e30] + [np.inf, -np.inf] * infinities
    spots = rng.random(rows.shape) < 0.06
    rows[spots] = rng.choice(odd, spots.sum())
    for column, count in categories:
        values = list(range(count)) + [count + 5, 1000, -1, -0.5, 2.5, np.nan]
        rows[:, column] = rng.choice(values, ROWS)
    return np.ascontiguousarray(rows, np.float64)


class Case:
    def __init__(self, root, name, rows):
        self.path = pathlib.Path(root) / name
        self.path.mkdir(parents=True)
        self.document = {"rows": rows.shape[0], "features": rows.shape[1], "functions": {}}
        rows.astype("<f8").tofile(self.path / "rows.bin")

    def expects(self, function, outputs, exact=False):
        """`outputs`: one array per output of the function."""
        entries = []
        for index, values in enumerate(outputs):
            values = np.ascontiguousarray(values)
            kind = {"f": "f32", "d": "f64", "i": "i64", "l": "i64", "q": "i64", "u": "i64"}.get(values.dtype.char, "text")
            file = f"{function}_{index}.bin"
            if kind == "text":
                entries.append({"dtype": "text", "values": [str(value) for value in values.ravel()]})
                continue
            values.astype({"f32": "<f4", "f64": "<f8", "i64": "<i8"}[kind]).tofile(self.path / file)
            entries.append({"dtype": kind, "file": file})
        self.document["functions"][function] = {"outputs": entries, "exact": exact}

    def done(self):
        (self.path / "case.json").write_text(json.dumps(self.document))


def columns(values):
    values = np.asarray(values)
    return [values] if values.ndim == 1 else [values[:, place] for place in range(values.shape[1])]


# ---------------------------------------------------------------------------------------------------------- XGBoost


def xgboost_thresholds(booster):
    document = json.loads(bytes(booster.save_raw("json")))
    gradient_booster = document["learner"]["gradient_booster"]
    found = []
    for tree in gradient_booster.get("gbtree", gradient_booster)["model"]["trees"]:
        nodes = zip(tree["left_children"], tree["split_type"], tree["split_indices"], tree["split_conditions"])
        found += [(feature, threshold) for left, kind, feature, threshold in nodes if left != -1 and kind == 0]
    return found


def xgboost_cases(root):
    import xgboost as xgb

    positive = lambda s: np.exp(s / 4)
    classes = lambda n: lambda s: np.digitize(s, np.quantile(s, np.linspace(0, 1, n + 1)[1:-1]))
    unit = lambda s: 1 / (1 + np.exp(-s))
    cases = [
        ("squarederror", "reg:squarederror", lambda s: s, {}),
        ("squaredlogerror", "reg:squaredlogerror", positive, {}),
        ("pseudohuber", "reg:pseudohubererror", lambda s: s, {}),
        ("absolute", "reg:absoluteerror", lambda s: s, {}),
        ("quantile", "reg:quantileerror", lambda s: s, {"quantile_alpha": 0.3}),
        ("quantiles", "reg:quantileerror", lambda s: s, {"quantile_alpha": [0.1, 0.5, 0.9]}),
        ("reg_logistic", "reg:logistic", unit, {}),
        ("logistic", "binary:logistic", classes(2), {}),
        ("logistic_base", "binary:logistic", classes(2), {"base_score": 0.2}),
        ("logitraw", "binary:logitraw", classes(2), {}),
        ("hinge", "binary:hinge", classes(2), {}),
        ("softmax", "multi:softmax", classes(4), {"num_class": 4}),
        ("softprob", "multi:softprob", classes(3), {"num_class": 3}),
        ("softprob_two", "multi:softprob", classes(2), {"num_class": 2}),
        ("poisson", "count:poisson", lambda s: np.floor(positive(s) * 3), {}),
        ("gamma", "reg:gamma", positive, {}),
        ("tweedie", "reg:tweedie", positive, {"tweedie_variance_power": 1.3}),
        ("cox", "survival:cox", positive, {}),
        ("rank_pairwise", "rank:pairwise", classes(3), {}),
        ("rank_ndcg", "rank:ndcg", classes(3), {}),
        ("rank_map", "rank:map", classes(2), {}),
        ("dart", "binary:logistic", classes(2), {"booster": "dart", "rate_drop": 0.4}),
        ("dart_softprob", "multi:softprob", classes(3), {"num_class": 3, "booster": "dart", "rate_drop": 0.4}),
        ("forest", "reg:squarederror", lambda s: s, {"num_parallel_tree": 5, "subsample": 0.6, "learning_rate": 1}),
        ("forest_softprob", "multi:softprob", classes(3), {"num_class": 3, "num_parallel_tree": 3, "subsample": 0.6}),
        ("stumps", "reg:squarederror", lambda s: s, {"max_depth": 1}),
        ("deep", "reg:squarederror", lambda s: s, {"max_depth": 14, "min_child_weight": 0}),
        ("lossguide", "binary:logistic", classes(2), {"grow_policy": "lossguide", "max_leaves": 40, "max_depth": 0}),
        ("exact", "binary:logistic", classes(2), {"tree_method": "exact"}),
        ("one_tree", "reg:squarederror", lambda s: s, {"rounds": 1}),
        ("no_tree", "binary:logistic", classes(2), {"rounds": 0, "base_score": 0.3}),
    ]
    for seed, (name, objective, target, params) in enumerate(cases):
        for missing in (0.0, 0.15):
            params_here = dict(params)
            rounds = params_here.pop("rounds", 12)
            x, signal = training(7, seed, missing)
            data = xgb.DMatrix(x, target(signal))
            if objective.startswith("rank:"):
                data.set_group([30] * 20)
            booster = xgb.train({"objective": objective, "nthread": 1, "seed": seed, "max_depth": 4, **params_here}, data, rounds)
            file = "model.ubj" if seed % 2 == (missing > 0) else "model.json"
            save_booster(xgb, root, f"{name}{'_missing' if missing else ''}", booster, x, file, objective)
    xgboost_specials(xgb, root, classes)


def xgboost_rows(xgb, booster, rows, categories=()):
    # DMatrix refuses infinities unless it is told that something else than NaN is missing; NaN always is.
    kinds = ["c" if column in dict(categories) else "q" for column in range(rows.shape[1])] if categories else None
    return xgb.DMatrix(rows, feature_types=kinds, enable_categorical=bool(categories), feature_names=booster.feature_names)


def save_booster(xgb, root, name, booster, x, file, objective, categories=()):
    thresholds = xgboost_thresholds(booster)
    numeric = [pair for pair in thresholds if pair[0] not in dict(categories)]
    rows = awkward(x, numeric, 7, categories, infinities=False)
    if categories:
        # XGBoost refuses negative categories in its own data.
        for column, _ in categories:
            rows[rows[:, column] < 0, column] = np.nan
    case = Case(root, f"xgboost_{name}", rows)
    booster.save_model(case.path / file)
    data = xgboost_rows(xgb, booster, rows, categories)
    case.expects("margin", [booster.predict(data, output_margin=True)], exact=True)
    prediction = booster.predict(data)
    case.expects("predict", columns(prediction))
    if objective in ("binary:logistic", "binary:hinge"):
        case.expects("predict_proba", [np.float32(1) - prediction, prediction])
    case.done()


def xgboost_specials(xgb, root, classes):
    for missing in (0.0, 0.1):
        for onehot in (1, 100):
            categories = [(4, 12), (5, 70)]
            x, signal = training(7, 50, missing, categories)
            data = xgb.DMatrix(x, signal, feature_types=["q", "q", "q", "q", "c", "c", "q"], enable_categorical=True)
            params = {"max_depth": 5, "tree_method": "hist", "max_cat_to_onehot": onehot, "nthread": 1}
            booster = xgb.train(params, data, 15)
            for file in ("model.json", "model.ubj"):
                name = f"categories_{onehot}_{'missing_' if missing else ''}{file[6:]}"
                save_booster(xgb, root, name, booster, x, file, "reg:squarederror", categories)
    x, signal = training(7, 60)
    both = np.stack([signal, -signal + x[:, 4]], axis=1)
    for strategy in ("one_output_per_tree", "multi_output_tree"):
        params = {"multi_strategy": strategy, "tree_method": "hist", "nthread": 1}
        booster = xgb.train(params, xgb.DMatrix(x, both), 10)
        save_targets(xgb, root, strategy, booster, x)
    # The classes of scikit-learn's sort.
    estimators = {
        "classifier_two": (xgb.XGBClassifier(n_estimators=9, n_jobs=1), classes(2)(signal)),
        "classifier_three": (xgb.XGBClassifier(n_estimators=9, n_jobs=1), classes(3)(signal)),
        "classifier_softmax": (xgb.XGBClassifier(n_estimators=9, n_jobs=1, objective="multi:softmax"), classes(3)(signal)),
        "classifier_labels": (xgb.XGBClassifier(n_estimators=9, n_jobs=1), (both > 0).astype(int)),
        "classifier_early": (xgb.XGBClassifier(n_estimators=60, n_jobs=1, early_stopping_rounds=2, learning_rate=1.5), classes(2)(signal)),
        "classifier_early_dart": (
            xgb.XGBClassifier(n_estimators=60, n_jobs=1, early_stopping_rounds=2, learning_rate=1.5, booster="dart"),
            classes(3)(signal),
        ),
        "classifier_forest": (xgb.XGBRFClassifier(n_estimators=7, n_jobs=1), classes(2)(signal)),
        "regressor": (xgb.XGBRegressor(n_estimators=9, n_jobs=1), signal),
        "regressor_early": (xgb.XGBRegressor(n_estimators=60, n_jobs=1, early_stopping_rounds=2, learning_rate=1.5), signal),
        "regressor_forest": (xgb.XGBRFRegressor(n_estimators=7, n_jobs=1), signal),
    }
    for index, (name, (model, target)) in enumerate(estimators.items()):
        if "early" in name:
            model.fit(x[:400], target[:400], eval_set=[(x[400:], target[400:])], verbose=False)
            assert model.best_iteration + 1 < model.get_booster().num_boosted_rounds(), name
        else:
            model.fit(x, target)
        rows = awkward(x, xgboost_thresholds(model.get_booster()), 8, infinities=False)
        case = Case(root, f"xgboost_{name}", rows)
        model.save_model(case.path / ("model.ubj" if index % 2 else "model.json"))
        loaded = type(model)()
        loaded.load_model(next(case.path.glob("model.*")))
        label = loaded.predict(rows)
        case.expects("predict", columns(label.astype(np.int64) if "classifier" in name else label))
        if "classifier" in name:
            case.expects("predict_proba", columns(loaded.predict_proba(rows)))
        # In place, XGBoost adds and subtracts the base score for each tree of a dart model.
        case.expects("margin", [loaded.predict(rows, output_margin=True)], exact="dart" not in name)
        case.done()


def save_targets(xgb, root, name, booster, x):
    thresholds = xgboost_thresholds(booster)
    rows = awkward(x, thresholds, 9, infinities=False)
    case = Case(root, f"xgboost_{name}", rows)
    booster.save_model(case.path / "model.json")
    case.expects("margin", [booster.predict(xgb.DMatrix(rows), output_margin=True)], exact=True)
    case.expects("predict", columns(booster.predict(xgb.DMatrix(rows))))
    case.done()


# --------------------------------------------------------------------------------------------------------- LightGBM


def lightgbm_thresholds(booster):
    found, fields = [], {}
    for line in booster.model_to_string().splitlines():
        key, _, value = line.partition("=")
        fields[key] = value.split()
        if key == "decision_type":
            nodes = zip(fields["split_feature"], fields["threshold"], fields["decision_type"])
            found += [(int(feature), float(threshold)) for feature, threshold, kind in nodes if int(kind) % 2 == 0]
    return found


def lightgbm_cases(root):
    import lightgbm as lgb

    positive = lambda s: np.exp(s / 4)
    classes = lambda n: lambda s: np.digitize(s, np.quantile(s, np.linspace(0, 1, n + 1)[1:-1]))
    unit = lambda s: 1 / (1 + np.exp(-s))
    cases = [
        ("regression", "regression", lambda s: s, {}),
        ("regression_sqrt", "regression", lambda s: s * 3, {"reg_sqrt": True}),
        ("l1", "regression_l1", lambda s: s, {}),
        ("huber", "huber", lambda s: s, {}),
        ("fair", "fair", lambda s: s, {}),
        ("quantile", "quantile", lambda s: s, {"alpha": 0.3}),
        ("mape", "mape", positive, {}),
        ("poisson", "poisson", lambda s: np.floor(positive(s) * 3), {}),
        ("gamma", "gamma", positive, {}),
        ("tweedie", "tweedie", positive, {}),
        ("binary", "binary", classes(2), {}),
        ("binary_slope", "binary", classes(2), {"sigmoid": 2.5}),
        ("multiclass", "multiclass", classes(4), {"num_class": 4}),
        ("multiclassova", "multiclassova", classes(3), {"num_class": 3, "sigmoid": 0.7}),
        ("cross_entropy", "cross_entropy", unit, {}),
        ("cross_entropy_lambda", "cross_entropy_lambda", unit, {}),
        ("lambdarank", "lambdarank", classes(3), {}),
        ("xendcg", "rank_xendcg", classes(3), {}),
        ("zero_as_missing", "regression", lambda s: s, {"zero_as_missing": True}),
        ("no_missing", "regression", lambda s: s, {"use_missing": False}),
        ("forest", "regression", lambda s: s, {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.6}),
        ("forest_binary", "binary", classes(2), {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.6}),
        ("forest_multiclass", "multiclass", classes(3), {"num_class": 3, "boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.6}),
        ("dart", "binary", classes(2), {"boosting": "dart", "drop_rate": 0.4}),
        ("stumps", "regression", lambda s: s, {"num_leaves": 2}),
        ("deep", "regression", lambda s: s, {"num_leaves": 300, "min_data_in_leaf": 1, "min_sum_hessian_in_leaf": 0}),
        ("constant", "regression", lambda s: s * 0 + 3.25, {}),
        ("categories", "regression", lambda s: s, {"categories": [(4, 12), (5, 70)], "max_cat_to_onehot": 1, "min_data_per_group": 5}),
        ("categories_onehot", "binary", classes(2), {"categories": [(4, 4), (5, 3)]}),
    ]
    for seed, (name, objective, target, params) in enumerate(cases):
        for missing in (0.0, 0.15):
            params_here = dict(params)
            categories = params_here.pop("categories", [])
            x, signal = training(7, seed, missing, categories)
            if name in ("zero_as_missing", "no_missing"):
                x[np.random.default_rng(seed).random(x.shape) < 0.2] = 0
            settings = {"verbose": -1, "num_threads": 1, "seed": seed, "deterministic": True, "num_leaves": 15, "min_data_in_leaf": 5}
            data = lgb.Dataset(x, target(signal), categorical_feature=[column for column, _ in categories], params={"verbose": -1, **params_here, **settings})
            if objective in ("lambdarank", "rank_xendcg"):
                data.set_group([30] * 20)
            booster = lgb.train({"objective": objective, **settings, **params_here}, data, 12)
            thresholds = lightgbm_thresholds(booster)
            rows = awkward(x, thresholds, 7, categories, dtype=np.float64)
            case = Case(root, f"lightgbm_{name}{'_missing' if missing else ''}", rows)
            booster.save_model(case.path / "model.txt")
            case.expects("margin", [booster.predict(rows, raw_score=True, num_threads=1)], exact=True)
            prediction = booster.predict(rows, num_threads=1)
            case.expects("predict", columns(prediction))
            if objective == "binary":
                case.expects("predict_proba", [1 - prediction, prediction])
            case.done()


# ------------------------------------------------------------------------------------------------------------- ONNX


def onnx_cases(root):
    import warnings

    warnings.filterwarnings("ignore")
    import lightgbm as lgb
    import onnx
    import xgboost as xgb
    from onnxmltools import convert_lightgbm, convert_xgboost
    from onnxmltools.convert.common.data_types import DoubleTensorType as MoreDouble
    from onnxmltools.convert.common.data_types import FloatTensorType as MoreFloat
    from skl2onnx import to_onnx
    from sklearn import ensemble, pipeline, preprocessing, tree

    classes = lambda s, n: np.digitize(s, np.quantile(s, np.linspace(0, 1, n + 1)[1:-1]))
    names = np.array(["ant", "bee", "cat"])
    x, signal = training(7, 70)
    two, three = classes(signal, 2), classes(signal, 3)
    narrow = x.astype(np.float32)
    forests = {"n_estimators": 8, "max_depth": 6, "random_state": 1}
    boosted = {"n_estimators": 8, "max_depth": 3, "random_state": 1}
    zip_off = {"zipmap": False}
    scikit = {
        "forest_regressor": (ensemble.RandomForestRegressor(**forests), signal, None),
        "forest_two_targets": (ensemble.RandomForestRegressor(**forests), np.stack([signal, -signal], 1), None),
        "forest_two": (ensemble.RandomForestClassifier(**forests), two, zip_off),
        "forest_two_maps": (ensemble.RandomForestClassifier(**forests), two, None),
        "forest_three": (ensemble.RandomForestClassifier(**forests), names[three], zip_off),
        "forest_three_maps": (ensemble.RandomForestClassifier(**forests), names[three], None),
        "extra_regressor": (ensemble.ExtraTreesRegressor(**forests), signal, None),
        "extra_three": (ensemble.ExtraTreesClassifier(**forests), three + 5, zip_off),
        "boosting_regressor": (ensemble.GradientBoostingRegressor(**boosted), signal, None),
        "boosting_two": (ensemble.GradientBoostingClassifier(**boosted), two, zip_off),
        "boosting_three": (ensemble.GradientBoostingClassifier(**boosted), names[three], zip_off),
        "tree_regressor": (tree.DecisionTreeRegressor(max_depth=5), signal, None),
        "tree_two": (tree.DecisionTreeClassifier(max_depth=5), two, zip_off),
        "tree_three": (tree.DecisionTreeClassifier(max_depth=5), three, zip_off),
        "scaled": (pipeline.make_pipeline(preprocessing.StandardScaler(), ensemble.RandomForestClassifier(**forests)), three, zip_off),
        "scaled_to_one": (
            pipeline.make_pipeline(preprocessing.MinMaxScaler(), ensemble.GradientBoostingRegressor(**boosted)), signal, None,
        ),
        "normalised": (pipeline.make_pipeline(preprocessing.Normalizer(), ensemble.RandomForestRegressor(**forests)), signal, None),
    }
    for name, (model, target, options) in scikit.items():
        for wide in (False, True)[: 1 if name == "normalised" else 2]:
            sample = (x if wide else narrow)[:1]
            model.fit(narrow, target)
            final = model.steps[-1][1] if hasattr(model, "steps") else model
            options_here = {id(final): options} if options else None
            save_onnx(root, f"{name}{'_wide' if wide else ''}", to_onnx(model, sample, options=options_here, target_opset={"": 17, "ai.onnx.ml": 3} if wide else None), x)
    more = {
        "xgboost_regressor": (xgb.XGBRegressor(n_estimators=9, n_jobs=1), signal),
        "xgboost_two": (xgb.XGBClassifier(n_estimators=9, n_jobs=1), two),
        "xgboost_three": (xgb.XGBClassifier(n_estimators=9, n_jobs=1), three),
        "xgboost_poisson": (xgb.XGBRegressor(n_estimators=9, n_jobs=1, objective="count:poisson"), np.floor(np.exp(signal / 4))),
        "xgboost_logistic": (xgb.XGBRegressor(n_estimators=9, n_jobs=1, objective="reg:logistic"), two),
        "lightgbm_regressor": (lgb.LGBMRegressor(n_estimators=9, n_jobs=1, verbose=-1), signal),
        "lightgbm_two": (lgb.LGBMClassifier(n_estimators=9, n_jobs=1, verbose=-1), two),
        "lightgbm_three": (lgb.LGBMClassifier(n_estimators=9, n_jobs=1, verbose=-1), names[three]),
        "lightgbm_poisson": (lgb.LGBMRegressor(n_estimators=9, n_jobs=1, verbose=-1, objective="poisson"), np.exp(signal / 4)),
        "lightgbm_forest": (
            lgb.LGBMRegressor(n_estimators=9, n_jobs=1, verbose=-1, boosting_type="rf", bagging_freq=1, bagging_fraction=0.6), signal,
        ),
        "lightgbm_missing": (lgb.LGBMRegressor(n_estimators=9, n_jobs=1, verbose=-1), signal),
        "xgboost_missing": (xgb.XGBRegressor(n_estimators=9, n_jobs=1), signal),
        "lightgbm_split": (lgb.LGBMRegressor(n_estimators=9, n_jobs=1, verbose=-1), signal),
    }
    for name, (model, target) in more.items():
        data = narrow.copy()
        if "missing" in name:
            data[np.random.default_rng(3).random(data.shape) < 0.2] = np.nan
        model.fit(data, target)
        convert = convert_xgboost if "xgboost" in name else convert_lightgbm
        options = {"split": 4} if "split" in name else {}
        save_onnx(root, name, convert(model, initial_types=[("input", MoreFloat([None, 7]))], **options), x)
        if "lightgbm" in name and isinstance(model, lgb.LGBMRegressor):
            save_onnx(root, f"{name}_wide", convert(model, initial_types=[("input", MoreDouble([None, 7]))], **options), x)
    categories = x.copy()
    categories[:, 4] = np.random.default_rng(5).integers(0, 12, len(x))
    model = lgb.LGBMRegressor(n_estimators=9, n_jobs=1, verbose=-1, max_cat_to_onehot=1, min_data_per_group=5)
    model.fit(categories, signal + categories[:, 4] % 3, categorical_feature=[4])
    converted = convert_lightgbm(model, initial_types=[("input", MoreFloat([None, 7]))])
    save_onnx(root, "lightgbm_categories", converted, categories, [(4, 12)])
    for case in handmade(onnx):
        save_onnx(root, *case, x)


def handmade(onnx):
    """What no converter writes: every comparison, every aggregate, leaves at the root, thresholds that are infinite."""
    helper = onnx.helper
    infinity = float("inf")

    def node_lists(modes, values, tracks):
        # A tree of seven nodes for each mode: the mode thrice, then leaves.
        lists = {name: [] for name in ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids", "missing_value_tracks_true")}
        leaves = {"treeids": [], "nodeids": [], "ids": [], "weights": []}
        rng = np.random.default_rng(9)
        for index, mode in enumerate(modes):
            for node in range(7):
                is_leaf = node >= 3
                lists["treeids"].append(index)
                lists["nodeids"].append(node)
                lists["featureids"].append((index + node) % 5)
                lists["values"].append(values[(index + node) % len(values)])
                lists["modes"].append("LEAF" if is_leaf else mode)
                lists["truenodeids"].append(0 if is_leaf else 2 * node + 1)
                lists["falsenodeids"].append(0 if is_leaf else 2 * node + 2)
                lists["missing_value_tracks_true"].append(0 if is_leaf else int(tracks and node % 2 == 0))
                if is_leaf:
                    for target in range(2):
                        leaves["treeids"].append(index)
                        leaves["nodeids"].append(node)
                        leaves["ids"].append(target)
                        leaves["weights"].append(float(np.float32(rng.normal())))
        return lists, leaves

    def only(leaves, target):
        keep = [place for place, other in enumerate(leaves["ids"]) if other == target]
        return {name: [values[place] for place in keep] for name, values in leaves.items()}

    def model(name, operator, leaves, lists, prefix, outputs, **more):
        attributes = {f"nodes_{key}": value for key, value in lists.items()}
        attributes |= {f"{prefix}_{key}": value for key, value in leaves.items()}
        node = helper.make_node(operator, ["x"], [output for output, _ in outputs], domain="ai.onnx.ml", **attributes, **more)
        wide = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [None, 7])
        declared = [helper.make_tensor_value_info(output, kind, None) for output, kind in outputs]
        graph = helper.make_graph([node], name, [wide], declared)
        return name, helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)], ir_version=8)

    modes = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"]
    values = [0.25, -0.5, 0.0, 1.0, 2.0, -1.5]
    score = [("y", onnx.TensorProto.FLOAT)]
    votes = [("label", onnx.TensorProto.INT64), ("scores", onnx.TensorProto.FLOAT)]
    for tracks in (False, True):
        suffix = "_tracks" if tracks else ""
        for mode in modes:
            lists, leaves = node_lists([mode] * 4, values, tracks)
            yield model(f"mode_{mode[7:].lower()}{suffix}", "TreeEnsembleRegressor", leaves, lists, "target", score, n_targets=2)
        lists, leaves = node_lists(modes, values, tracks)
        for aggregate in ("SUM", "AVERAGE", "MIN", "MAX"):
            name = f"aggregate_{aggregate.lower()}{suffix}"
            yield model(name, "TreeEnsembleRegressor", leaves, lists, "target", score, n_targets=2, aggregate_function=aggregate, base_values=[0.5, -1.25])
            yield model(f"{name}_one", "TreeEnsembleRegressor", only(leaves, 0), lists, "target", score, n_targets=1, aggregate_function=aggregate, base_values=[0.5])
    lists, leaves = node_lists(modes, [infinity, -infinity, 0.5], True)
    yield model("infinite_thresholds", "TreeEnsembleRegressor", leaves, lists, "target", score, n_targets=2)
    lists, leaves = node_lists(modes, values, False)
    for transform in ("NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"):
        yield model(f"regressor_{transform.lower()}", "TreeEnsembleRegressor", leaves, lists, "target", score, n_targets=2, post_transform=transform)
        yield model(f"regressor_one_{transform.lower()}", "TreeEnsembleRegressor", only(leaves, 0), lists, "target", score, n_targets=1, post_transform=transform)
        for base in ([], [0.3], [0.3, -0.2]):
            more = {"base_values": base} if base else {}
            for which in ("both", "first", "second", "positive"):
                if (which == "second" and base) or (which != "both" and len(base) == 2):
                    continue
                some = leaves if which == "both" else only(leaves, 1 if which == "second" else 0)
                if which == "positive":
                    some = dict(some, weights=[abs(weight) / 8 for weight in some["weights"]])
                name = f"classes_{which}_{transform.lower()}_{len(base)}"
                yield model(name, "TreeEnsembleClassifier", some, lists, "class", votes, classlabels_int64s=[10, 20], post_transform=transform, **more)


def save_onnx(root, name, model, x, categories=()):
    import onnxruntime as ort

    thresholds = []
    for node in model.graph.node:
        lists = {attribute.name: attribute for attribute in node.attribute}
        if "nodes_values" in lists or "nodes_values_as_tensor" in lists:
            values = list(lists["nodes_values"].floats) if "nodes_values" in lists else []
            nodes = zip(lists["nodes_featureids"].ints, values, lists["nodes_modes"].strings)
            thresholds += [(f, t) for f, t, mode in nodes if mode != b"LEAF" and np.isfinite(t) and f not in dict(categories)]
    rows = awkward(x, thresholds, 7, categories)
    case = Case(root, f"onnx_{name}", rows)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(model.SerializeToString(), options)
    except Exception:
        # The converter declares float64 where the operator gives float32.
        for output in model.graph.output:
            if output.type.tensor_type.elem_type == 11:
                output.type.tensor_type.elem_type = 1
        session = ort.InferenceSession(model.SerializeToString(), options)
    (case.path / "model.onnx").write_bytes(model.SerializeToString())
    wide = session.get_inputs()[0].type == "tensor(double)"
    results = session.run(None, {session.get_inputs()[0].name: rows.astype(np.float64 if wide else np.float32)})
    flat = []
    for result in results:
        if isinstance(result, list):
            keys = sorted(result[0])
            result = np.array([[row[key] for key in keys] for row in result], np.float32)
        flat.append(np.asarray(result))
    case.expects("predict", flat)
    case.done()


# ----------------------------------------------------------------------------------------------------------- seeds


def seeds(root):
    """Small models for fuzzing, as tests/fixtures/models/trees has them."""
    import lightgbm as lgb
    import xgboost as xgb

    folder = pathlib.Path(root)
    x, signal = training(4, 1, 0.1, [(3, 40)])
    three = np.digitize(signal, [-1, 1])
    types = ["q", "q", "q", "c"]
    data = xgb.DMatrix(x, three, feature_types=types, feature_names=["a", "b", "c", "d"], enable_categorical=True)
    params = {"objective": "multi:softprob", "num_class": 3, "max_depth": 3, "max_cat_to_onehot": 1, "booster": "dart"}
    booster = xgb.train({**params, "tree_method": "hist", "nthread": 1}, data, 2)
    booster.save_model(folder / "dart.ubj")
    booster.save_model(folder / "dart.json")
    both = np.stack([signal, -signal], axis=1)
    params = {"multi_strategy": "multi_output_tree", "tree_method": "hist", "max_depth": 3, "nthread": 1}
    xgb.train(params, xgb.DMatrix(x, both), 2).save_model(folder / "vectors.ubj")
    settings = {"objective": "multiclass", "num_class": 3, "verbose": -1, "num_threads": 1, "num_leaves": 6, "min_data_per_group": 5}
    data = lgb.Dataset(x, three, categorical_feature=[3], params={"verbose": -1})
    lgb.train({**settings, "max_cat_to_onehot": 1}, data, 2).save_model(folder / "categories.txt")


if __name__ == "__main__":
    families = {"xgboost": xgboost_cases, "lightgbm": lightgbm_cases, "onnx": onnx_cases, "seeds": seeds}
    families[sys.argv[1]](sys.argv[2])
