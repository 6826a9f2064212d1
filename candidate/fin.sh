set -x
cd /work/main; P=.venv/bin/python; D=RangeClassOrdinalPipeline
(
$P $D/${D}__infer2.py --manifest data/prepared/utkface/manifest.csv --split test --out out/gate.csv
$P $D/${D}__infer2.py --manifest data/prepared/fgnet_dev/manifest.csv --out out/gate2.csv
$P scripts/analyze_reg_model.py --compare never=weights/AgeRegBaseline/predictions/utkface_test.csv always=weights/DiffPipeline6/predictions/utkface_test.csv gated=weights/$D/predictions/utkface_test.csv --out out/gate.html
$P scripts/analyze_reg_model.py weights/AgeRegBaseline/predictions/utkface_test.csv --out out/report.html
$P $D/${D}__main.py --data data/prepared/utkface --target difference --runs out/rc_runs
R=$(ls -d out/rc_runs/$D/*/weights | tail -1)
$P $D/${D}__infer.py --weights $R --data data/prepared/utkface --split test --out out/rc_diff
ls out/rc_diff
rm -rf out/pp_leave-one-person-out out/pp_subject-kfold
for p in leave-one-person-out subject-kfold; do $P scripts/run_protocol.py data/prepared/fgnet_dev --protocol $p --out out/pp_$p; done
for m in "" --fast; do
$P DiffPipeline6/DiffPipeline6__infer2.py --manifest data/prepared/utkface/manifest.csv --split val $m --out out/val$m.csv
$P DiffPipeline6/DiffPipeline6__infer2.py --manifest data/prepared/fgnet_dev/manifest.csv $m --out out/fg$m.csv
$P DiffPipeline6/DiffPipeline6__infer2.py --manifest /work/shared/data/photos/photos.csv $m --out out/ph$m.csv
done
for s in fgnet_dev "utkface --split test"; do PYTHONPATH=out/peers-packages $P scripts/compare_with_peers.py data/prepared/$s --out out/peers_${s%% *} || PYTHONPATH=out/peers-packages $P scripts/compare_with_peers.py data/prepared/$s; done
make demo
PYTHONPATH=out/peers-packages $P scripts/benchmark.py --json weights/benchmark.json
) 2>&1
echo ALLDONE
