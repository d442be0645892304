"""Run benchmarks: ``python -m benchmarks [NAME ...]``; without names, all but those marked long.

Some have options of their own: ``python -m benchmarks NAME --help`` shows them.
"""

import argparse
import importlib
import sys

# name -> (question it answers, whether it takes minutes)
BENCHMARKS = {
    "mixture_throughput": ("Do scores and posteriors run at the rate of their matrix products?", False),
    "throughput": (
        "How fast are posteriors and scores beside PyTorch and scikit-learn, by size and device?",
        False,
    ),
    "mixture_memory": ("Does memory stay flat while n·K·d grows past it?", False),
    "empirical_mixture": (
        "What do exact entropies of 60,000 points cost beside their matrix products?",
        True,
    ),
    "quadrature_against_sampling": ("What does an equal error cost by quadrature and by sampling?", False),
    "exact_against_sampling": ("What does an exact curve cost beside sampling, and how exact is it?", True),
    "exact_curves": ("What does a whole exact curve cost, in seconds and in memory?", True),
    "checkpoint_loading": ("What does it cost to load EDM2-XS, in seconds and in memory?", False),
    "estimators": ("What do the estimators add to the network, and what does an error cost by each?", False),
    "evaluations_to_answer": ("How many network evaluations does an answer of stated precision need?", True),
    "edm2_forward": ("How fast is EDM2-XS, beside the machine's own rates and its convolutions?", True),
    "sd15_forward": ("How fast are Stable Diffusion's networks, beside diffusers' under torch?", True),
    "vision": ("How fast are DINOv2, CLIP and Inception-v3, beside transformers and pytorch-fid?", True),
    "accelerator": ("What do networks, mixtures and training cost on an accelerator?", True),
    "cost_of_dimension": ("How does the cost of a curve grow with d and K?", False),
}


def main(arguments: list[str]) -> int:
    """Run the named benchmarks and print their tables."""
    if len(arguments) > 1 and arguments[0] in BENCHMARKS and arguments[1].startswith("-"):
        return _run_one(arguments[0], arguments[1:])
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="benchmarks to run (default: the short ones)"
    )
    parser.add_argument("--list", action="store_true", help="list the benchmarks and what each answers")
    chosen = parser.parse_args(arguments)
    if chosen.list:
        for name, (question, long) in BENCHMARKS.items():
            print(f"{name:30s} {question}{' (minutes)' if long else ''}")
        return 0
    unknown = [name for name in chosen.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"unknown benchmark {unknown[0]!r}; one of {', '.join(BENCHMARKS)}")
    for name in chosen.names or [name for name, (_, long) in BENCHMARKS.items() if not long]:
        print(f"\n{name}: {BENCHMARKS[name][0]}", flush=True)
        importlib.import_module(f"benchmarks.{name}").run()
    return 0


def _run_one(name: str, arguments: list[str]) -> int:
    """Run one benchmark with its own options."""
    module = importlib.import_module(f"benchmarks.{name}")
    if not hasattr(module, "main"):
        raise SystemExit(f"python -m benchmarks: {name} has no options, got {' '.join(arguments)}")
    module.main(arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
