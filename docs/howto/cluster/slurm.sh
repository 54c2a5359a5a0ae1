#!/usr/bin/env bash
# One Ray cluster for one job of Slurm: a head on the first node, one Ray node on every other, tokenrank on the first.
#
#   sbatch --nodes=8 docs/howto/cluster/slurm.sh evaluate saliency --data DATA --methods tokenrank,rollout --out RUN
#
# What follows the script is the command, without --engine and --address. The same line again goes on with the run.
# Partition, account and time are your site's: give them to sbatch. Environment and data lie where all nodes see them.
#SBATCH --job-name=tokenrank
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-node=8
#SBATCH --exclusive
#SBATCH --signal=B:TERM@60
set -euo pipefail

: "${SLURM_JOB_NODELIST:?no job of Slurm; hand this file in with sbatch}" "${SLURM_CPUS_PER_TASK:?give --cpus-per-task}"
environment="${TOKENRANK_ENVIRONMENT:-$PWD/.venv}" # made with: pip install '.[evaluate,distributed]'
port="${TOKENRANK_PORT:-6379}"
gpus="${SLURM_GPUS_ON_NODE:-0}"
workers_a_gpu="${TOKENRANK_WORKERS_A_GPU:-1}"

# shellcheck source=/dev/null
source "$environment/bin/activate"
export HF_HUB_OFFLINE=1          # 64 workers do not ask a hub at once
export RAY_USAGE_STATS_ENABLED=0 # Ray tells nobody
export RAY_AUTH_MODE=token       # other users of these nodes cannot send work to this cluster
RAY_AUTH_TOKEN="$(python -c 'import secrets; print(secrets.token_hex(32))')"
export RAY_AUTH_TOKEN

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
address="$(srun --nodes=1 --ntasks=1 --nodelist="${nodes[0]}" hostname --ip-address | awk '{print $1}')"

# --overlap: these steps hold no processors or GPUs back from each other
on() { srun --overlap --nodes=1 --ntasks=1 --cpus-per-task="$SLURM_CPUS_PER_TASK" --gpus="$gpus" --nodelist="$1" "${@:2}"; }

trap 'kill $(jobs -p) 2>/dev/null || true' EXIT # whatever ends this script ends the cluster
on "${nodes[0]}" ray start --head --node-ip-address="$address" --port="$port" --include-dashboard=false \
  --num-cpus="$SLURM_CPUS_PER_TASK" --num-gpus="$gpus" --block &
for node in "${nodes[@]:1}"; do
  on "$node" ray start --address="$address:$port" --num-cpus="$SLURM_CPUS_PER_TASK" --num-gpus="$gpus" --block &
done

# a node that comes late starts workers when it comes; the head has to be there
on "${nodes[0]}" timeout 120 bash -c "until ray health-check --address '$address:$port'; do sleep 2; done"

share="$(python -c "print($gpus and 1 / $workers_a_gpu)")"
on "${nodes[0]}" tokenrank "$@" --engine ray --address "$address:$port" --gpus "$share" &
wait $! # and not srun itself, so that a signal of Slurm's reaches the trap
