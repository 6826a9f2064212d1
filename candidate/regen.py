"""usage: regen.py STAGE... ; runs the named stages of train_release with skip of ablations, logging times; notes done.json"""
import sys,time,json,subprocess
sys.path.insert(0,'/work/main')
from pathlib import Path
from scripts import train_release as T
src=Path('/work/shared/data')
for name in sys.argv[1:]:
    st={s.name:s for s in T.stages(src)}[name]
    t0=time.monotonic()
    for c in st.commands:
        if '--ablations' in c or c[0]=='-m': print('SKIP',c); continue
        t=time.monotonic(); print('$',' '.join(c),flush=True)
        r=subprocess.run([sys.executable,*c],cwd=T.REPOSITORY).returncode
        print(f'== {round(time.monotonic()-t)} s, status {r}: {" ".join(c)[:120]}',flush=True)
        if r: sys.exit(r)
    if st.release: T.release(*st.release)
    d=json.loads((T.WORK/'done.json').read_text())
    if name!='controls': d[name]=round(time.monotonic()-t0)
    (T.WORK/'done.json').write_text(json.dumps(d,indent=1)); print('=== stage',name,round(time.monotonic()-t0),flush=True)
