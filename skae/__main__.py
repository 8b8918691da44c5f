"""The command line: ``python -m skae``."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from skae import warmup
from skae._cli import demo
from skae._cli.demo_data import MIN_ROWS
from skae._cli.errors import DemoError

WARMUP = "warmup"
# Exit status of a program that Ctrl-C ended.
INTERRUPTED = 130
# The largest random_state that NumPy's legacy generator, and so scikit-learn, takes.
MAX_SEED = 2**32 - 1

DESCRIPTION = """\
Reduce each sample to a few numbers, with PCA and with an autoencoder, and compare
how much of the data they reconstruct.

Both are compared by cross-validation for several code sizes; then each is fitted on
all training samples and scored on held-out samples: by R2 (the share of the variance
that is reconstructed) and, if there are labels, by the accuracy of a linear
classifier on the codes (of a linear regression, for a target of numbers). Errors of
an array are in its units: if features have different scales, those with the largest
decide R2. Columns of a .csv count once each: numbers are standardized, text is
categories (of PCA, one-hot columns). Where values are missing, PCA gets the mean of
the feature; only the other values are scored.

For a file that holds no images, a report says in words what was found: how many
numbers are enough, which columns are lost, which rows are unusual, and how to
continue in Python. Tables have the share that is kept of each column, and the score
and the code of each row.

Without --data, the data are the handwritten digits of scikit-learn."""

EPILOG = """\
examples:
  python -m skae
  python -m skae --code-sizes 2 5 10 --output results
  python -m skae --data measurements.csv --target species
  python -m skae warmup"""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line.

    Returns
    -------
    parser : argparse.ArgumentParser
    """
    parser = argparse.ArgumentParser(
        prog="python -m skae",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "command",
        nargs="?",
        metavar=WARMUP,
        help=(
            "compile everything now and keep the machine code on disk, so that the "
            "first fit does not have to, for images and servers; run it as the user, "
            "and on the kind of processor, of later fits"
        ),
    )
    data = parser.add_argument_group("data")
    data.add_argument(
        "--data",
        type=Path,
        metavar="FILE",
        help=(
            "samples to reduce: .npy (an array), .npz (X or X_train, and y or y_train "
            "if there are labels) or .csv, also .csv.gz (separated by commas, "
            "semicolons or tabs, with or without a header), of at least "
            f"{MIN_ROWS} rows; NaN, in a .csv also NA or an empty cell, is a missing "
            "value; text in a .csv is a category"
        ),
    )
    data.add_argument(
        "--target",
        metavar="COLUMN",
        help=(
            "column of a .csv to predict from the codes, by name or by number (from 0; "
            "-1 is the last): classes, or numbers"
        ),
    )
    data.add_argument(
        "--categories",
        nargs="+",
        default=[],
        metavar="COLUMN",
        help=(
            "columns of a .csv that hold categories although they look like numbers, "
            "such as postcodes, by name or by number"
        ),
    )
    data.add_argument(
        "--drop",
        nargs="+",
        default=[],
        metavar="COLUMN",
        help="columns of a .csv to leave out, such as numbers of customers",
    )
    data.add_argument(
        "--scaler",
        choices=sorted(demo.SCALERS),
        help=(
            "how features of an array are scaled before the reduction (default: "
            "minmax); columns of a .csv are standardized"
        ),
    )
    data.add_argument(
        "--max-rows",
        type=_positive_int,
        default=demo.MAX_ROWS,
        metavar="N",
        help=(
            "training samples to use, drawn at random, if there are more (default: "
            "%(default)s)"
        ),
    )
    comparison = parser.add_argument_group("comparison")
    comparison.add_argument(
        "--code-sizes",
        type=_positive_int,
        nargs="+",
        metavar="N",
        help=(
            "numbers that a sample is reduced to (default: those of "
            f"{' '.join(map(str, demo.CODE_SIZES))} below the number of features)"
        ),
    )
    comparison.add_argument(
        "--cv",
        type=_positive_int,
        default=3,
        metavar="FOLDS",
        help="folds of the grid search (default: %(default)s)",
    )
    comparison.add_argument(
        "--max-iter",
        type=_positive_int,
        metavar="EPOCHS",
        help=(
            "training epochs of the autoencoder (default: "
            f"{demo.MAX_ITER} for the digits; for files, as many as "
            "AutoencoderTransformer chooses)"
        ),
    )
    comparison.add_argument(
        "--random-state",
        type=_seed,
        default=0,
        metavar="SEED",
        help="seed of the split and of the autoencoder (default: %(default)s)",
    )
    output = parser.add_argument_group("output")
    output.add_argument(
        "--output",
        type=Path,
        default=Path("skae-demo"),
        metavar="FOLDER",
        help=(
            f"for {demo.REPORT_FILE}, {demo.ROWS_FILE}, {demo.COLUMNS_FILE}, "
            f"{demo.TABLE_FILE} and {demo.PICTURE_FILE} (default: %(default)s)"
        ),
    )
    output.add_argument(
        "--no-plot",
        action="store_true",
        help="write no picture, which needs matplotlib",
    )
    return parser


def _positive_int(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"not a positive whole number: {text}")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) > MAX_SEED:
        raise argparse.ArgumentTypeError(f"not a number from 0 to {MAX_SEED}: {text}")
    return int(text)


def _warm_up() -> int:
    """Compile everything; return 1 if the machine code could not be kept, else 0."""
    begin = time.perf_counter()
    cache_path = warmup(n_jobs=-1)
    seconds = time.perf_counter() - begin
    if cache_path is None:
        print(
            "python -m skae: error: Numba found no writable folder for machine code; "
            "set NUMBA_CACHE_DIR to one",
            file=sys.stderr,
        )
        return 1
    print(f"skae is compiled, in {seconds:.1f} s; the machine code is in {cache_path}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : list of str, default=None
        Arguments without the program's name; None takes those of the process.

    Returns
    -------
    status : int
        0 after success, 1 if machine code could not be kept, 2 after an error of the
        user, 130 after Ctrl-C.
    """
    arguments = build_parser().parse_args(argv)
    try:
        if arguments.command == WARMUP:
            return _warm_up()
        if arguments.command is not None:
            raise DemoError(
                f"{arguments.command} is no command ({WARMUP} is the only one); to use "
                f"a file: --data {arguments.command}"
            )
        demo.run(
            arguments.data,
            target=arguments.target,
            categories=arguments.categories,
            dropped=arguments.drop,
            scaler=arguments.scaler,
            code_sizes=arguments.code_sizes,
            cv=arguments.cv,
            max_iter=arguments.max_iter,
            max_rows=arguments.max_rows,
            random_state=arguments.random_state,
            output=arguments.output,
            plot=not arguments.no_plot,
        )
    except DemoError as error:
        print(f"python -m skae: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("python -m skae: interrupted", file=sys.stderr)
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
