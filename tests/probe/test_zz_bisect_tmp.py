import sys
sys.path.insert(0,'/work/main')
from tests.probe.conftest import *  # noqa
from tests.probe.test_loop_shapes import written
from auditor.probe.parts import collectors
def test_it(zygote):
    name="gradients from torch.autograd.grad, no optimizer"
    s=written(name)
    bare=zygote.bare(s,record=12)
    bad=[]
    for kind in [c.name for c in collectors()]+["experimentsfree"]:
        seen=zygote.probe(s,record=12,parts=(kind,),steps=20)
        if seen.notes!=bare.notes: bad.append(kind)
    print("BAD", bad)
    assert 0
