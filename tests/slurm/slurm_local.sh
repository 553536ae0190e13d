#!/usr/bin/env bash
# A Slurm of two nodes, with accounting, on this machine alone: slurm_local.sh start|stop FOLDER, as root.
# Clients then need SLURM_CONF=FOLDER/slurm.conf. Debian: slurm-wlm munge slurmdbd mariadb-server.
set -euo pipefail
command=$1
folder=$(realpath -m "$2")
host=$(hostname -s)
# The database's own user must be able to write there.
export TMPDIR=/tmp

stop() {
    for name in slurmd.n1 slurmd.n2 slurmctld slurmdbd mariadb munged; do
        pid=$(cat "$folder/run/$name.pid" 2>/dev/null) || continue
        kill "$pid" 2>/dev/null || continue
        # One that ended may be listed for long, where whoever inherits it is busy.
        for _ in $(seq 100); do grep -qs '^State:[[:space:]]*[^ZX]' "/proc/$pid/status" || break; sleep 0.1; done
        kill -9 "$pid" 2>/dev/null || true
    done
}

if [ "$command" = stop ]; then
    stop
    exit 0
fi

rm -rf "$folder"
mkdir -p "$folder"/{run,log,state,spool.n1,spool.n2,mysql}
chmod 755 "$folder" "$folder/run"

# The system's own socket of munge: clients of slurmdbd look for no other.
mkdir -p /run/munge
chown munge: /run/munge /var/log/munge /var/lib/munge /etc/munge/munge.key
if ! munge -n >/dev/null 2>&1; then
    runuser -u munge -- munged --force --pid-file=/run/munge/munged.pid
    for _ in $(seq 50); do munge -n >/dev/null 2>&1 && break; sleep 0.1; done
    cp /run/munge/munged.pid "$folder/run/munged.pid"
fi

chown -R mysql: "$folder/mysql"
mariadb-install-db --user=mysql --datadir="$folder/mysql" --skip-test-db >/dev/null 2>&1
setsid mariadbd --user=mysql --datadir="$folder/mysql" --socket="$folder/mysql/s.sock" --bind-address=127.0.0.1 \
    --port=3399 --pid-file="$folder/mysql/pid" >"$folder/log/mariadb.log" 2>&1 &
echo $! >"$folder/run/mariadb.pid"
for _ in $(seq 120); do mariadb -S "$folder/mysql/s.sock" -e 'select 1' >/dev/null 2>&1 && break; sleep 0.5; done
mariadb -S "$folder/mysql/s.sock" -e "create database slurm_acct_db; create user slurm@'127.0.0.1' identified by 'x';
    create user slurm@localhost identified by 'x'; grant all on slurm_acct_db.* to slurm@'127.0.0.1';
    grant all on slurm_acct_db.* to slurm@localhost"

cat >"$folder/slurmdbd.conf" <<C
AuthType=auth/munge
DbdHost=localhost
DbdAddr=127.0.0.1
SlurmUser=root
LogFile=$folder/log/slurmdbd.log
PidFile=$folder/run/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=3399
StorageUser=slurm
StoragePass=x
StorageLoc=slurm_acct_db
C
chmod 600 "$folder/slurmdbd.conf"

# A sweep of twelve cells takes two arrays.
# A node that is silent for ten seconds is down, so that tests need not wait for five minutes; and what is queued again
# waits as long as credentials live.
cat >"$folder/slurm.conf" <<C
ClusterName=local
SlurmctldHost=$host(127.0.0.1)
AuthType=auth/munge
AuthInfo=cred_expire=10
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool.%n
SlurmctldPidFile=$folder/run/slurmctld.pid
SlurmdPidFile=$folder/run/slurmd.%n.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd.%n.log
SlurmdTimeout=10
MaxArraySize=8
KillWait=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
SchedulerType=sched/backfill
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
MpiDefault=none
SwitchType=switch/none
NodeName=n[1-2] NodeHostname=$host NodeAddr=127.0.0.1 Port=[17001-17002] CPUs=1 RealMemory=8000 State=UNKNOWN
PartitionName=local Nodes=n[1-2] Default=YES MaxTime=INFINITE State=UP
C

export SLURM_CONF=$folder/slurm.conf
setsid slurmdbd
for _ in $(seq 40); do timeout 5 sacctmgr -n list cluster >/dev/null 2>&1 && break; sleep 0.5; done
timeout 10 sacctmgr -i add cluster local >/dev/null 2>&1 || true
setsid slurmctld -c
setsid slurmd -N n1
setsid slurmd -N n2
for _ in $(seq 60); do [ "$(timeout 5 sinfo -h -t idle -o %D 2>/dev/null)" = 2 ] && exit 0; sleep 0.5; done
echo "the two nodes did not become idle; see $folder/log" >&2
exit 1
