"""What is shown and takes long, needs a cluster, or is meant to do harm: by which test it is covered instead.

The first pattern that is found in a command counts. What "" stands for is nothing of ours to test: a shell's own words.
"""

from __future__ import annotations

from typing import Final

ELSEWHERE: Final = {
    r"^(source|export|mkdir|kill|cat|curl|aws|strace|tensorboard|kubectl) ": "",
    r"^relight \w+ +(CONFIG|URL)|^relight run +CONFIG": "",  # A synopsis.
    r"^pip install": "tests/test_packaging.py::test_the_constraints_pin_everything_that_relight_and_its_tests_need",
    r"^python -m benchmarks": "tests/benchmarks/test_commands.py",
    r"^python benchmarks/": "tests/benchmarks/test_commands.py",
    r"^(weed|python -c 'import s3fs)": "tests/docs/test_s3_page.py",
    r"^\./launch\.sh": "tests/test_launch.py",
    r"^\./tests/run": "tests/test_launch.py",
    r"^pkill": "tests/e2e/test_example.py",
    r"^relight chaos": "tests/e2e/test_chaos.py",
    r"^relight run .*(--nnodes|preemption\.watch|rdzv)": "tests/hosts/test_hosts.py",
    r"^relight run .*(s3://|endpoint_url)": "tests/e2e/test_object_store.py",
    r"^relight run .*(gpt|parallel=|max_per_rank)": "tests/e2e/test_gpt.py",
    r"^relight run .*(my\.yaml|digits|init_from|train\.yaml|job\.yaml)": "tests/e2e/test_example.py",
    r"^(relight run|torchrun) .*train\.py": "tests/e2e/test_readme.py",
    r"^relight .*s3://": "tests/docs/test_s3_page.py",
    r"^relight status .*--watch": "tests/orchestrator/test_status_view.py",
    r"^(sbatch|srun)": "tests/orchestrator/test_ending.py",
    r"^accelerate launch": "tests/examples/test_frameworks.py",
}
