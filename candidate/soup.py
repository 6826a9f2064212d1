import sys; sys.path.insert(0,'/work/main')
import torch,numpy as np
from dataclasses import replace
from common.checkpoints import load_bar,load_checkpoint
from common.manifest import load_prepared
from common.bar import central_view
R='/work/main/runs/release/taught/AgeRegBaseline/2026-11-26_05-10-35-714'
P=load_prepared('/work/main/data/prepared/utkface'); rows=P.rows('val'); y=P.manifest['age'].to_numpy(float)[rows]
X=torch.from_numpy(np.stack([P.crops[r] for r in rows]))
a=load_bar('/work/main/weights/AgeRegBaseline').state_dict()
best=load_checkpoint(R+'/best_model.ckpt')['model']; last=load_checkpoint(R+'/latest_model.ckpt')['model']
m=load_bar('/work/main/weights/AgeRegBaseline'); cfg=m.config
def ev(sd,size):
    m.load_state_dict(sd); m.config=replace(cfg,input_size=size); m.eval()
    # undo standardise: same centre/spread as a's? use own
    with torch.inference_mode(): r=torch.cat([m(central_view(x,m.config)).age for x in X.split(64)]).numpy()
    return abs(r-y).mean().round(3),(r-y).mean().round(2),r
def mix(p,q,w):
    return {k:(torch.lerp(v.float(),q[k].float(),w) if v.is_floating_point() else v) for k,v in p.items()}
# start weights: trained base run (not standardised centre) vs released; use base run weights
import glob
s=load_bar(glob.glob('/work/main/runs/release/base/AgeRegBaseline/*/weights')[0]).state_dict()
bl=mix(best,last,.5)
for w in (0,.3,.5,.7,1): print('best+start',w,ev(mix(best,s,w),96)[:2],'88px',ev(mix(best,s,w),88)[:2], 'best-last mean', ev(mix(bl,s,w),96)[:2],flush=True)
r88=ev(s,88)[2]; 
for w in (0,.3,.5):
    r=ev(mix(bl,s,w),96)[2]; print('ensemble of outputs',w,abs((r+r88)/2-y).mean())
