"""Takes OTLP over gRPC and prints what it gets: one JSON object a request."""

import argparse
import concurrent.futures
import threading

import grpc
from google.protobuf.json_format import MessageToJson
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2_grpc as logs_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc as metrics_grpc

LOCK = threading.Lock()


def take(request, context):
    sent = dict(context.invocation_metadata())
    if sent.get("authorization") != "Bearer sesame":
        context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you?")
    text = MessageToJson(request, preserving_proto_field_name=True, indent=None)
    with LOCK:
        print(text, flush=True)


class Metrics(metrics_grpc.MetricsServiceServicer):
    def Export(self, request, context):
        take(request, context)
        return metrics.ExportMetricsServiceResponse()


class Logs(logs_grpc.LogsServiceServicer):
    def Export(self, request, context):
        take(request, context)
        return logs.ExportLogsServiceResponse()


parser = argparse.ArgumentParser()
parser.add_argument("--port", required=True)
parser.add_argument("--certificate", required=True)
parser.add_argument("--key", required=True)
arguments = parser.parse_args()
with open(arguments.certificate, "rb") as certificate, open(arguments.key, "rb") as key:
    credentials = grpc.ssl_server_credentials([(key.read(), certificate.read())])
server = grpc.server(concurrent.futures.ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
metrics_grpc.add_MetricsServiceServicer_to_server(Metrics(), server)
logs_grpc.add_LogsServiceServicer_to_server(Logs(), server)
server.add_secure_port(f"127.0.0.1:{arguments.port}", credentials)
server.start()
print('{"listening": true}', flush=True)
server.wait_for_termination()
