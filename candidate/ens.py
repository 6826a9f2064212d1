from probe import *
E=np.load('edge.npy'); M=np.load('mbf112.npy'); H=np.load('chip112.npy'); R=np.load('rel.npz')
y=a.numpy()[sp==2]; r=R['age'][sp==2]
kw=dict(drop=0.2,epochs=15)
pr={}
for n,X in (('E',E),('H',H),('EH',np.concatenate([E,H],1)),('EHM',np.concatenate([E,H,M],1))):
    pr[n]=np.mean([probe(X,sp==0,s,**kw)[0] for s in (0,1,2)],0)
    print(n,abs(pr[n]-y).mean().round(3),{w:abs((1-w)*r+w*pr[n]-y).mean().round(3) for w in (.2,.4,.5,.6)},'corr of errors',np.corrcoef(pr[n]-y,r-y)[0,1].round(3),flush=True)
np.savez('pr.npz',**pr)
