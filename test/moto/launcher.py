"""moto's server, with the gaps closed that would let this project's tests pass for the
wrong reason. moto.go runs it:

    python3 launcher.py

It listens on a free port of 127.0.0.1, prints that port on one line of stdout, and ends
when its stdin does, so that it never outlives the test, however that ends. Written for
moto 5.

Each patch says what AWS does, and what moto does instead.
"""

import base64
import json
import os
import sys
import threading
from fnmatch import fnmatchcase
from urllib.parse import unquote, urlparse

from moto import settings
from moto.awslambda.models import LambdaFunction
from moto.awslambda.responses import LambdaResponse
from moto.core.authorization import ActionAuthenticatorMixin
from moto.core.responses import ActionResult, BaseResponse
from moto.dynamodb.models import DynamoDBBackend
from moto.dynamodb.responses import DynamoHandler
from moto.events.models import Rule
from moto.events.responses import EventsHandler
from moto.iam import access_control, iam_backends
from moto.iam.responses import IamResponse
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.secretsmanager.responses import SecretsManagerResponse
from moto.sns.models import sns_backends
from moto.ssm.responses import SimpleSystemManagerResponse
from werkzeug.serving import WSGIRequestHandler, make_server


def refuse_inactive_keys():
    """AWS refuses a key that is not Active. moto looks at its secret only."""
    init = access_control.IAMUserAccessKey.__init__

    def checked(self, account_id, partition, access_key_id, headers):
        init(self, account_id, partition, access_key_id, headers)
        for user in self.backend.list_users("/", None, None):
            for key in user.access_keys:
                if key.access_key_id == access_key_id and key.status != "Active":
                    raise access_control.CreateAccessKeyFailure(reason="InvalidId")

    access_control.IAMUserAccessKey.__init__ = checked


def name_resources():
    """AWS checks a policy's Resource against what a call is about. moto checks it against
    "*", and so denies whatever a narrow policy allows. What is not named here, or names
    several, stays "*": a narrow policy does not allow it."""

    def arn(self, service, rest):
        region = "" if service == "iam" else self.region
        return f"arn:{self.partition}:{service}:{region}:{self.current_account}:{rest}"

    def iam(self):
        for param, kind in (("UserName", "user"), ("RoleName", "role")):
            name = self._get_param(param)
            if name:
                try:
                    return getattr(self.backend, f"get_{kind}")(name).arn
                except Exception:  # there is none: the call says where it is to be made
                    return arn(self, "iam", kind + (self._get_param("Path") or "/") + name)
        key_id = self._get_param("AccessKeyId")  # GetAccessKeyLastUsed names no user
        for user in self.backend.list_users("/", None, None):
            if key_id in [key.access_key_id for key in user.access_keys]:
                return user.arn
        return "*"

    def dynamodb(self):
        params = getattr(self, "params", {})
        if "TableName" not in params:
            return "*"
        table = params["TableName"].split("/")[-1]  # or it is an ARN
        index = params.get("IndexName")
        return arn(self, "dynamodb", f"table/{table}" + (f"/index/{index}" if index else ""))

    def events(self):
        if self._get_action() == "PutEvents":
            buses = {entry.get("EventBusName", "default") for entry in self._get_param("Entries")}
            return arn(self, "events", "event-bus/" + buses.pop().split("/")[-1]) if len(buses) == 1 else "*"
        bus = (self._get_param("EventBusName") or "default").split("/")[-1]
        rule = self._get_param("Name") or self._get_param("Rule")
        return arn(self, "events", "rule/" + (rule if bus == "default" else f"{bus}/{rule}")) if rule else "*"

    def secretsmanager(self):
        name = self._get_param("SecretId")
        secret = self.backend.secrets.get(name) if name else None
        return secret.arn if secret else "*"

    def ssm(self):
        name = self._get_param("Name")
        return arn(self, "ssm", "parameter/" + name.lstrip("/")) if name else "*"

    def awslambda(self):
        words = unquote(self.raw_path).split("/")  # /VERSION/functions/NAME/...
        if len(words) < 4 or words[2] != "functions":
            return "*"
        function = words[3].split(":function:")[-1]
        qualifier = self.querystring.get("Qualifier", [""])[0]
        return arn(self, "lambda", "function:" + function + (f":{qualifier}" if qualifier else ""))

    IamResponse._determine_resource = iam
    DynamoHandler._determine_resource = dynamodb
    EventsHandler._determine_resource = events
    SecretsManagerResponse._determine_resource = secretsmanager
    SimpleSystemManagerResponse._determine_resource = ssm
    LambdaResponse._determine_resource = awslambda


def check_what_was_signed():
    """AWS checks the signature of the path and the body as they were sent. moto decodes the
    path, and takes the headers for a body that is empty, so that no GET and no DELETE is right."""
    authorize = ActionAuthenticatorMixin._authenticate_and_authorize_action
    create_request = access_control.IAMRequestBase._create_aws_request

    def as_sent(self, *args, **kwargs):
        uri = self.uri
        self.uri = urlparse(uri)._replace(path=self.raw_path).geturl()
        try:
            authorize(self, *args, **kwargs)
        finally:
            self.uri = uri

    def create_aws_request(self):
        if self._method in ("GET", "DELETE"):
            self._data = b""
        return create_request(self)

    ActionAuthenticatorMixin._authenticate_and_authorize_action = as_sent
    access_control.IAMRequestBase._create_aws_request = create_aws_request


def name_the_permission_to_invoke():
    """The permission to call Lambda's Invoke is lambda:InvokeFunction. moto looks for
    lambda:Invoke."""
    check = access_control.IAMRequestBase.check_action_permitted

    def checked(self, resource):
        if self._action == "lambda:Invoke":
            self._action = "lambda:InvokeFunction"
        check(self, resource)

    access_control.IAMRequestBase.check_action_permitted = checked


def speak_the_protocol_of_errors():
    """AWS sends a 403 in the protocol of the service. moto sends one XML to all, whose
    code no SDK can read. (DynamoDB and EventBridge speak JSON, IAM and STS XML.)"""
    call_action = BaseResponse.call_action
    json_codes = {
        "AccessDenied": "AccessDeniedException",
        "InvalidClientTokenId": "UnrecognizedClientException",
        "SignatureDoesNotMatch": "InvalidSignatureException",
    }

    def between(text, tag):
        return text.split(f"<{tag}>")[1].split(f"</{tag}>")[0]

    def called(self):
        status, headers, body = call_action(self)
        text = body if isinstance(body, str) else ""
        if status not in (401, 403) or "<Errors>" not in text:
            return status, headers, body
        code, message = between(text, "Code"), between(text, "Message")
        if self.headers.get("X-Amz-Target"):
            headers["Content-Type"] = "application/x-amz-json-1.0"
            status = 400
            body = json.dumps({"__type": json_codes.get(code, code), "message": message})
        else:
            body = (
                f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code>"
                f"<Message>{message}</Message></Error><RequestId>moto</RequestId></ErrorResponse>"
            )
        headers.pop("Content-Length", None)
        return status, headers, body

    BaseResponse.call_action = called


def compare_and_swap():
    """DynamoDB checks a condition and writes in one step. moto lets another thread in
    between."""
    one_at_a_time = threading.RLock()
    put_item = DynamoDBBackend.put_item

    def put(self, *args, **kwargs):
        with one_at_a_time:
            return put_item(self, *args, **kwargs)

    DynamoDBBackend.put_item = put


def let_schedules_be():
    """On AWS a rule without a pattern is a schedule, which no event triggers. moto sends
    it every event, and fails the whole PutEvents when its target is a Lambda function."""
    send = Rule.send_to_targets

    def send_to_targets(self, original_event, *args, **kwargs):
        if self.event_pattern.get_pattern():
            send(self, original_event, *args, **kwargs)

    Rule.send_to_targets = send_to_targets


def publish_to_topics():
    """On AWS a rule publishes to a topic that is its target, if the topic's policy lets it,
    and puts what it takes from the event into the template as it is. moto does nothing
    about such targets."""
    send = Rule.send_to_targets

    def lets(topic, rule):
        for statement in json.loads(topic.policy)["Statement"]:
            sources = statement.get("Condition", {}).get("ArnEquals", {"aws:SourceArn": rule.arn})
            if "events.amazonaws.com" in str(statement["Principal"]) and sources["aws:SourceArn"] == rule.arn:
                return True
        return False

    def sentence(event, template, paths):
        for name, path in paths.items():
            value = event
            for key in path.split(".")[1:]:
                value = (value or {}).get(key)
            # Behind a colon it is a JSON value, elsewhere inside of a text.
            template = template.replace(f": <{name}>" + "}", ": " + json.dumps(value) + "}")
            template = template.replace(f"<{name}>", "" if value is None else str(value))
        return template

    def send_to_targets(self, original_event, *args, **kwargs):
        all_targets = self.targets
        topics = [t for t in all_targets if t["Arn"].split(":")[2] == "sns"]
        self.targets = [t for t in all_targets if t not in topics]
        try:
            send(self, original_event, *args, **kwargs)
        finally:
            self.targets = all_targets
        if not self.event_pattern.matches_event(original_event):
            return
        for target in topics:
            topic = sns_backends[self.account_id][self.region_name].get_topic(target["Arn"])
            transformer = target.get("InputTransformer") or {"InputTemplate": json.dumps(original_event)}
            if lets(topic, self):
                topic.publish(sentence(original_event, transformer["InputTemplate"], transformer.get("InputPathsMap", {})))

    Rule.send_to_targets = send_to_targets


def remember_where_a_function_logs():
    """Lambda answers with the LoggingConfig that a function was given. moto forgets it, and
    so every plan of Terraform would set it again."""
    init = LambdaFunction.__init__
    get_configuration = LambdaFunction.get_configuration
    update_configuration = LambdaFunction.update_configuration

    def made(self, account_id, spec, *args, **kwargs):
        init(self, account_id, spec, *args, **kwargs)
        self.logging_config = spec.get("LoggingConfig")

    def got(self, *args, **kwargs):
        config = get_configuration(self, *args, **kwargs)
        if self.logging_config:
            config["LoggingConfig"] = self.logging_config
        return config

    def updated(self, config_updates):
        self.logging_config = config_updates.get("LoggingConfig", self.logging_config)
        return update_configuration(self, config_updates)

    LambdaFunction.__init__ = made
    LambdaFunction.get_configuration = got
    LambdaFunction.update_configuration = updated


def list_no_service_specific_credentials():
    """moto does not know this call, with which Terraform makes sure that it may delete a user
    and all that the user has (force_destroy)."""
    IamResponse.list_service_specific_credentials = lambda self: ActionResult({"ServiceSpecificCredentials": []})


def leave_running_to_others():
    """moto would run a function in Docker, if there is one. Package lambda runs ours; what
    is invoked here is only whether that is allowed."""
    LambdaFunction.invoke = lambda self, body, headers, response_headers: b"null"


def ask_the_trust_policy():
    """AWS wants no signature on AssumeRoleWithWebIdentity: it compares the token's claims
    with the role's trust policy. moto wants a signature, and reads neither. (Who signed
    the token is not looked at here.)"""
    authorize = BaseResponse._authenticate_and_authorize_normal_action

    def trusted(role, token):
        claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
        issuer = claims["iss"].removeprefix("https://")
        for statement in json.loads(role.assume_role_policy_document)["Statement"]:
            if not statement["Principal"].get("Federated", "").endswith(":oidc-provider/" + issuer):
                continue
            conditions = statement["Condition"]
            if conditions.keys() <= {"StringEquals", "StringLike"} and all(
                any(fnmatchcase(str(claims[key.removeprefix(issuer + ":")]), pattern) for pattern in listed(patterns))
                for condition in conditions.values()
                for key, patterns in condition.items()
            ):
                return True
        return False

    def listed(value):
        return value if isinstance(value, list) else [value]

    def asked(self, resource="*"):
        enforcing = ActionAuthenticatorMixin.request_count >= settings.INITIAL_NO_AUTH_ACTION_COUNT
        if not enforcing or self._get_action() != "AssumeRoleWithWebIdentity":
            return authorize(self, resource)
        arn = self._get_param("RoleArn")
        role = iam_backends[self.current_account]["aws"].get_role(arn.split("/")[-1])
        if not trusted(role, self._get_param("WebIdentityToken")):
            raise access_control.AccessDeniedError(user_arn="a web identity", action="sts:AssumeRoleWithWebIdentity")

    BaseResponse._authenticate_and_authorize_normal_action = asked


class Quiet(WSGIRequestHandler):
    """Logs errors, not requests."""

    def log_request(self, *args, **kwargs):
        pass


def end_with_stdin():
    sys.stdin.read()
    os._exit(0)


def main():
    refuse_inactive_keys()
    name_resources()
    check_what_was_signed()
    name_the_permission_to_invoke()
    speak_the_protocol_of_errors()
    compare_and_swap()
    publish_to_topics()
    let_schedules_be()
    remember_where_a_function_logs()
    list_no_service_specific_credentials()
    leave_running_to_others()
    ask_the_trust_policy()
    app = DomainDispatcherApplication(create_backend_app)
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
    os.environ["MOTO_PORT"] = str(server.port)
    threading.Thread(target=end_with_stdin, daemon=True).start()
    print(server.port, flush=True)
    server.serve_forever()


main()
