#!/usr/bin/env bash
# A real Slurm of one node on this machine, for tests: slurm.sh start FOLDER | stop FOLDER. Needs root and Debian's packages
# slurmctld, slurmd, slurm-client and munge. All that it writes lies in FOLDER; its commands need SLURM_CONF=FOLDER/slurm.conf.
set -euo pipefail
command=$1 folder=$2
export SLURM_CONF=$folder/slurm.conf

start() {
    mkdir -p "$folder/state" "$folder/spool"
    if ! munge -n > /dev/null 2>&1; then
        install -d -o munge -g munge -m 0755 /run/munge
        runuser -u munge -- munged --force
    fi
    local host memory
    host=$(hostname -s)
    memory=$(($(free -m | awk '/^Mem:/ {print $2}') / 2))
    cat > "$SLURM_CONF" << CONF
ClusterName=cellpatch
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
SlurmUser=root
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
SchedulerParameters=bf_interval=5
AuthInfo=cred_expire=5
KillWait=5
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$memory State=UNKNOWN
PartitionName=tests Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
    slurmctld
    slurmd
    for _ in $(seq 60); do
        if sinfo --noheader --format=%T 2> /dev/null | grep -q idle; then return; fi
        sleep 1
    done
    tail -n 20 "$folder"/slurm*.log >&2
    echo "Slurm's node did not come up in a minute" >&2
    exit 1
}

stop() {
    for daemon in slurmd slurmctld; do
        if [ -f "$folder/$daemon.pid" ]; then kill "$(cat "$folder/$daemon.pid")" || true; fi
    done
}

"$command"
