#!/usr/bin/env bash
# What make test-cluster needs beside the project: Debian's Slurm, if it is not there, and the launchers. Needs root for the former.
set -euo pipefail
for command in slurmctld slurmd sbatch munged; do
    if ! command -v "$command" > /dev/null; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends -qq slurmctld slurmd slurm-client munge
        break
    fi
done
"$1" -m pip install --quiet --constraint constraints.txt --editable '.[joblib,slurm,ray]'
