#!/bin/bash
# matloop workers as a real Slurm job array on this one machine, one job of it killed.
#
#   sudo apt-get install slurmctld slurmd slurm-client munge
#   benchmarks/slurm_demo.sh            (as root, since slurmd must be; it starts daemons of its own and ends them)
#
# Two nodes' worth of workers pull from `matloop serve`; one job is killed (SIGTERM to all of its processes, then SIGKILL) while it evaluates. It
# prints what became of the campaign. The settings are those that a machine without systemd, cgroups and accounting needs.
set -euo pipefail
house=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-$house/.venv/bin/python}
work=$(mktemp -d)
host=$(hostname -s)
mkdir -p "$work"/{state,spool,bin}
printf '#!/bin/sh\nPYTHONPATH=%s exec %s -c "import sys; from campaigns.cli import main; sys.exit(main())" "$@"\n' \
  "$house" "$python" >"$work/bin/matloop"
chmod +x "$work/bin/matloop"
export PATH=$work/bin:$PATH SLURM_CONF=$work/slurm.conf OMP_NUM_THREADS=1 MATLOOP_DB=sqlite:///$work/matloop.db

dd if=/dev/urandom of="$work/munge.key" bs=1024 count=1 status=none
chmod 400 "$work/munge.key"
chown munge: "$work/munge.key"
chmod 755 "$work"
mkdir -p "$work/munge" && chown munge: "$work/munge" && chmod 755 "$work/munge"
munged=$(command -v munged)
setpriv --reuid=munge --regid=munge --clear-groups "$munged" --key-file="$work/munge.key" --socket="$work/munge/socket" \
  --pid-file="$work/munge/pid" --log-file="$work/munge/log" --seed-file="$work/munge/seed" --force 2>/dev/null

cat >"$SLURM_CONF" <<END
ClusterName=demo
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$work/munge/socket
CredType=cred/munge
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd.log
SlurmctldPort=16817
SlurmdPort=16818
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
ReturnToService=2
MpiDefault=none
KillWait=30
NodeName=$host NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN
PartitionName=all Nodes=$host Default=YES MaxTime=INFINITE State=UP
END
sed -i "s/CPUs=4/CPUs=$(nproc --all)/" "$SLURM_CONF"

end() {
  set +e
  scancel --user="$(id -un)" 2>/dev/null
  for pid in "$work"/{slurmd,slurmctld}.pid "$work/munge/pid"; do
    [ -f "$pid" ] || continue
    number=$(cat "$pid")
    kill "$number"
    for _ in $(seq 20); do kill -0 "$number" 2>/dev/null || break; sleep 0.5; done
    kill -KILL "$number" 2>/dev/null # slurmd waits for ever for a step that hangs
  done
  [ -n "${server:-}" ] && kill "$server"
  wait 2>/dev/null
}
trap end EXIT
slurmctld
slurmd
for _ in $(seq 60); do sinfo -h -o %t 2>/dev/null | grep -qE 'idle' && break; sleep 1; done
echo "Slurm $(sinfo --version | cut -d' ' -f2): node $(sinfo -h -o '%n %t %C')"

cat >"$work/toy.yaml" <<END
campaign: toy
space: {x: {range: [0, 1]}, y: {range: [0, 1]}}
objectives: {hardness: {goal: maximize, unit: GPa}}
evaluate: {with: python, function: 'toy.py:measure'}
budget: {trials: 10, batch: 5}
lease: {ttl: 20 s}
END
cat >"$work/toy.py" <<END
import time
def measure(design, seed):
    time.sleep(6)
    return {"hardness": 10 - (design["x"] - 0.6) ** 2 - design["y"]}
END
cd "$work"
matloop serve --spec toy.yaml --port 18765 >serve.log 2>&1 &
server=$!
for _ in $(seq 120); do grep -q "^serving" serve.log && break; sleep 1; done
export MATLOOP_KEY=$(grep -o 'mlk_[A-Za-z0-9_-]*' serve.log | head -1)

for _ in $(seq 300); do
  [ "$(curl -s -H "Authorization: Bearer $MATLOOP_KEY" http://127.0.0.1:18765/v1/campaigns/toy/trials?status=candidate | grep -o '"trial"' | wc -l)" -ge 5 ] && break
  sleep 1
done

cat >job.sh <<'END'
#!/bin/bash
#SBATCH --array=1-4 --time=00:10:00 --cpus-per-task=1 --output=job-%a.log
export OMP_NUM_THREADS=1
exec matloop worker --server http://127.0.0.1:18765 --campaign toy --allow-python --until-walltime 9m --until-idle 20s --dir "$SLURM_SUBMIT_DIR/workers"
END
sbatch job.sh
for _ in $(seq 300); do log=$(grep -l begun job-*.log 2>/dev/null | head -1 || true); [ -n "$log" ] && break; sleep 1; done
task=${log//[!0-9]/}
echo "job $task of the array is killed while it evaluates"
scancel --signal=KILL --full "$(squeue -h -r -o '%K %i' | awk -v t="$task" '$1 == t {print $2}')"
while [ -n "$(squeue -h)" ]; do sleep 2; done
echo "--- what the jobs said"
grep -H . job-*.log | sed 's/\.log:/: /' | grep -vE 'loading|asks'
echo "--- the campaign"
matloop status toy --json 2>/dev/null | "$python" -c "import json, sys; c = json.load(sys.stdin)['data']['counts']; print({k: v for k, v in c.items() if v})"
"$python" - <<END
import json, sqlite3
rows = sqlite3.connect("$work/matloop.db").execute("select kind, count(*) from event group by kind order by 1").fetchall()
print({k: n for k, n in rows if k.startswith(("trial", "lease"))})
n = sqlite3.connect("$work/matloop.db").execute("select count(*), count(distinct trial_id) from observation").fetchone()
print("observations:", n[0], "of trials:", n[1])
END
