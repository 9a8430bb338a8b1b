import time
from tests.emulated.test_twin_path import *  # noqa
from tests.emulated.test_twin_path import path, PERIOD_MS, wait_until  # noqa
for _n in [n for n in list(globals()) if n.startswith("test_")]:
    del globals()[_n]
P=6000
def test_near(path):
    out=[]
    wait_until(lambda: len(path.local("twins")) == 2, 5)
    for k in range(26):
        aim=0.45+0.03*k
        while (time.time()+aim)%(P/1000) > 0.01: time.sleep(0.001)
        path.agents("configure", ue_id="ue2", report_period_ms=P)
        n0=len(path.centre.of("ap1")); kind="ok"
        try: wait_until(lambda: [t["id"] for t in path.local("twins")] == ["ue1"], 2)
        except AssertionError: kind="first"
        if kind=="ok":
            try: wait_until(lambda: path.centre.of("ap1")[-1].users_expected == 1, 2)
            except AssertionError: kind="SECOND"
        if kind=="SECOND": print("second", aim, [(a.window%1000,a.users_reported,a.users_expected) for a in path.centre.of("ap1")[n0:]], path.local("twins"))
        out.append((round(aim,2),kind))
        path.agents("configure", ue_id="ue2", report_period_ms=PERIOD_MS)
        wait_until(lambda: len(path.local("twins")) == 2 and path.centre.of("ap1")[-1].users_reported==2, 5)
    print("RESULT",out)
