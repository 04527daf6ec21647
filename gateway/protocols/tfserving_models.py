"""What TensorFlow Serving says about models, in its own messages and words: for its gRPC and its REST alike.

Sources: tensorflow_serving/apis/{model,get_model_status,get_model_metadata}.proto; texts of
tensorflow_serving/model_servers/{server_core,get_model_status_impl}.cc and core/basic_manager.cc.
"""

from gateway.catalog import Catalog
from gateway.contract import Contract
from gateway.errors import InvalidRequest, NotFound
from gateway.protocols.edge import Edge
from gateway.specs import TensorSpec
from gateway.tensor_proto import DATATYPES
from services.protocol.tfserving_pb2 import (
    GetModelStatusResponse,
    ModelVersionStatus,
    SignatureDef,
    SignatureDefMap,
    StatusProto,
    TensorInfo,
)

SIGNATURE = "serving_default"
"""The one signature of every model: its contract."""
SIGNATURE_FIELD = "signature_def"
METHOD = "tensorflow/serving/predict"


def version_asked(number: int) -> str:
    """A version's number as our word for it; 0 asks for none.

    No contract has a version 0, which the server's clients may ask for (and would not find) and by which
    OpenVINO's, who speak this protocol too, mean the default version.
    """
    return str(number) if number else ""


def check_spec(catalog: Catalog, model: str, *, version: str = "", label: str = "") -> str:
    """The concrete version that a request means, as far as it is configured.

    Raises:
        NotFound, InvalidRequest: in TF Serving's words; a label that it does not know is no NOT_FOUND there.
    """
    contract = catalog.contracts.get(model)
    if contract is not None and label:
        labels = catalog.labels(model)
        if label not in labels:
            raise InvalidRequest(f"Unrecognized servable version label: {label}")
        return labels[label]
    if contract is None or (version and version not in contract.versions):
        asked = f"Specific({model}, {version})" if version else f"Latest({model})"
        raise NotFound(f"Servable not found for request: {asked}")
    return version or contract.default_version


def check_signature(name: str) -> None:
    """See that a request asks for the signature that there is; an empty name does.

    Raises:
        InvalidRequest: it asks for another.
    """
    if name not in ("", SIGNATURE):
        raise InvalidRequest(f'Serving signature name: "{name}" not found in signature def')


def model_status(edge: Edge, model: str, *, version: str = "", label: str = "") -> GetModelStatusResponse:
    """The state of one version (a label names one, too), or of all, the newest first.

    A version is AVAILABLE while an endpoint takes its traffic, and LOADING while none does.

    Raises:
        NotFound, InvalidRequest: in TF Serving's words.
    """
    contract = edge.catalog.contracts.get(model)
    if contract is None:
        raise NotFound(f"Could not find any versions of model {model}")
    if version and version not in contract.versions:
        raise NotFound(f"Could not find version {version} of model {model}")
    if version or label:
        chosen = [check_spec(edge.catalog, model, version=version, label=label)]
    else:
        chosen = sorted(contract.versions, key=int, reverse=True)
    reply = GetModelStatusResponse()
    for each in chosen:
        status = reply.model_version_status.add(version=int(each), state=ModelVersionStatus.AVAILABLE)
        status.status.error_code = StatusProto.OK
        if not edge.is_ready(model, each):
            status.state = ModelVersionStatus.LOADING
            status.status.error_code = StatusProto.UNAVAILABLE
            status.status.error_message = "no endpoint takes traffic"
    return reply


def signatures(contract: Contract) -> SignatureDefMap:
    """The contract as a map of one signature.

    `TensorInfo.name` is the name of a tensor in a graph, which only an engine knows: here it is `<input>:0`.
    """
    signature = SignatureDef(method_name=METHOD)
    for spec in contract.inputs:
        signature.inputs[spec.name].CopyFrom(_tensor_info(contract, spec))
    for spec in contract.outputs:
        signature.outputs[spec.name].CopyFrom(_tensor_info(contract, spec))
    return SignatureDefMap(signature_def={SIGNATURE: signature})


def _tensor_info(contract: Contract, spec: TensorSpec) -> TensorInfo:
    info = TensorInfo(name=f"{spec.name}:0", dtype=DATATYPES[spec.datatype])
    info.tensor_shape.SetInParent()
    for size in contract.full_shape(spec):
        info.tensor_shape.dim.add(size=size)
    return info
