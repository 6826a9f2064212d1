import sys; sys.path.insert(0,'/work/main')
import numpy as np,torch
from torch import nn
from common.manifest import load_prepared
from common.age_distribution import gaussian_targets,kl_loss,expectation,median
torch.set_num_threads(1)
P=load_prepared('/work/main/data/prepared/utkface')
S=('base','dar','val','calib'); rows=[P.rows(s) for s in S]; sp=np.concatenate([[i]*len(r) for i,r in enumerate(rows)]); rows=np.concatenate(rows)
a=torch.tensor(P.manifest['age'].to_numpy(float)[rows]).float()
def probe(X,trainmask,seed=0,epochs=30,wd=0.05,h=256,drop=0.5,frac=1.0):
    torch.manual_seed(seed)
    X=torch.tensor(X).float(); m=torch.tensor(trainmask); mu,sd=X[m].mean(0),X[m].std(0)+1e-6; X=(X-mu)/sd
    V=torch.tensor(sp==2)
    net=nn.Sequential(nn.Dropout(drop),nn.Linear(X.shape[1],h),nn.SiLU(),nn.Dropout(0.3),nn.Linear(h,101))
    ages=torch.arange(101.)
    idx=torch.where(m)[0]
    if frac<1: idx=idx[torch.randperm(len(idx))[:int(frac*len(idx))]]
    opt=torch.optim.AdamW(net.parameters(),1e-3,weight_decay=wd); steps=epochs*(len(idx)//256)
    sch=torch.optim.lr_scheduler.OneCycleLR(opt,2e-3,total_steps=steps); n=0
    for e in range(epochs):
        for b in idx[torch.randperm(len(idx))].split(256):
            if len(b)<256 or n>=steps: continue
            lp=torch.log_softmax(net(X[b]),1); t=a[b].clamp(0,100)
            loss=(kl_loss(lp,gaussian_targets(t,ages,2.0))+0.1*(expectation(lp,ages)-t).abs()).mean()
            opt.zero_grad();loss.backward();opt.step();sch.step();n+=1
    net.eval()
    with torch.no_grad(): lp=torch.log_softmax(net(X[V]),1)
    return median(lp,ages).numpy(), (median(lp,ages)-a[V]).abs().mean().item()
if __name__=='__main__':
    E=np.load('edge.npy'); print('edge',E.shape,[round(probe(E,sp==0,s)[1],3) for s in (0,1)])
    for f in (0.5,0.75): print('edge frac',f,[round(probe(E,sp==0,s,frac=f,epochs=int(30/f))[1],3) for s in (0,1)])
    print('edge + dar + calib',[round(probe(E,sp!=2,s)[1],3) for s in (0,1)])
