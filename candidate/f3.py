import sys,time,numpy as np,torch,cv2
sys.path.insert(0,'/work/main'); sys.path.insert(0,'.')
from probe import *
from common.bar import BARConfig,BAR,load_backbone_weights
torch.set_num_threads(1)
rng=np.random.default_rng(0)
sub=np.concatenate([np.sort(rng.choice(np.where(sp==0)[0],5000,replace=False)),np.where(sp==2)[0]])
b=BAR(BARConfig(backbone='mobilefacenet')); load_backbone_weights(b); b.eval()
def frame(crop,x0,y0,x1,y1,w,h,flag=cv2.INTER_LINEAR):
    sx,sy=w/(x1-x0),h/(y1-y0)
    m=np.array([[sx,0,-x0*sx+.5*sx-.5],[0,sy,-y0*sy+.5*sy-.5]])
    return cv2.warpAffine(crop,m,(w,h),flags=flag,borderMode=cv2.BORDER_REPLICATE)
import subprocess
V={'full80':(0,0,128,128,80,80),'c96':(4,4,124,124,96,96),'s80':(0,-11,128,119,80,80),'x96y96':(0,-11,128,119,96,96),'x96y88':(0,0,128,119,96,88),'x88y88':(4,-1,124,119,88,88),'x96y112':(0,-35,128,119,96,112),'x80y88':(10,-1,118,119,80,88),'x96y96b':(0,-16,128,114,96,96),'x88y96':(4,-11,124,119,88,96),'x104y104':(-7,-22,135,119,104,104),'c88lin':(4,4,124,124,88,88),'full96':(0,0,128,128,96,96),'p104':(-7,-7,135,135,104,104),'chip112':(-11.6,-35,137.6,119,112,112),'sym112':(-12,-12,140,140,112,112),'w112h96':(-12,-11,140,119,112,96),'full88':(0,0,128,128,88,88),'full112':(0,0,128,128,112,112)}
import probe as PR
for n in sys.argv[1:]:
    out=[]; t=time.time()
    with torch.inference_mode():
        for k in range(0,len(sub),64):
            x=np.stack([frame(np.asarray(P.crops[rows[i]]),*V[n]) for i in sub[k:k+64]])
            x=torch.from_numpy(x).permute(0,3,1,2).float()/255
            out.append(b.backbone((x-b.mean)/b.std).numpy())
    X=np.zeros((len(sp),512),np.float32); X[sub]=np.concatenate(out)
    m=np.zeros(len(sp),bool); m[sub[:5000]]=True
    print(n,round(time.time()-t),[round(probe(X,m,s,drop=.2,epochs=30)[1],3) for s in (0,1,2)],flush=True)
