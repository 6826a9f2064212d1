import sys; sys.path.insert(0,'/work/main')
import torch,numpy as np,glob
from dataclasses import replace
from common.checkpoints import load_bar,load_checkpoint
from common.manifest import load_prepared
from common.bar import central_view
R='/work/main/runs/release/taught/AgeRegBaseline/2026-11-26_05-10-35-714'
S=[]
P=load_prepared('/work/main/data/prepared/fgnet_dev'); y=P.manifest['age'].to_numpy(float); k=~np.isnan(y)
X=torch.from_numpy(np.stack([P.crops[i] for i in np.where(k)[0]])); y=y[k]
best=load_checkpoint(R+'/best_model.ckpt')['model']
m=load_bar('/work/main/weights/AgeRegBaseline'); cfg=m.config
s=load_bar(glob.glob('/work/main/runs/release/base/AgeRegBaseline/*/weights')[0]).state_dict()
mix=lambda p,q,w:{k:(torch.lerp(v.float(),q[k].float(),w) if v.is_floating_point() else v) for k,v in p.items()}
for w,size in ((1,88),(.7,88),(.5,88),(.3,96),(.3,88),(0,96)):
    m.load_state_dict(mix(best,s,w)); m.config=replace(cfg,input_size=size); m.eval()
    with torch.inference_mode(): r=torch.cat([m(central_view(x,m.config)).age for x in X.split(64)]).numpy()
    print('part of released',w,size,'FG-NET',abs(r-y).mean().round(3),(r-y).mean().round(2),flush=True)
