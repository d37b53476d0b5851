"""The contract suite: what every store must do, as tests. Run it on a store of your own:

    class TestMyStore(StoreContract):
        @pytest.fixture
        def store_factory(self, tmp_path):
            return lambda clock: MyStore(tmp_path / "file", clock=clock)

The factory makes a store that has not been started; all stores of one test work on the same storage. Set
`durable = False` for one that forgets when it stops. One that gives hints (`cxguard.stores.base.Hinting`) is tested by
`cxguard.testing.contract.hinting.HintingContract` beside it. It needs `pytest` and `pytest-asyncio`.
"""

from __future__ import annotations

from cxguard.testing.contract.counting import PruningContract, TallyContract
from cxguard.testing.contract.keeping import RecordingContract, RestartContract, SwappingContract
from cxguard.testing.contract.leasing import SeizingContract, TakingContract
from cxguard.testing.contract.losing import LosingContract
from cxguard.testing.contract.noting import NotingContract
from cxguard.testing.contract.opening import OpeningContract
from cxguard.testing.contract.putting import PuttingContract
from cxguard.testing.contract.saving import SavingContract
from cxguard.testing.contract.searching import SearchingContract
from cxguard.testing.contract.spreading import SpreadingContract


class StoreContract(
    OpeningContract,
    SavingContract,
    TakingContract,
    SeizingContract,
    NotingContract,
    PuttingContract,
    SearchingContract,
    SpreadingContract,
    TallyContract,
    PruningContract,
    SwappingContract,
    RecordingContract,
    RestartContract,
    LosingContract,
):
    """Every promise of `cxguard.stores.base.Store`, each a test."""
