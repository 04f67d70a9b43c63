"""What can go wrong, as types: every message is one sentence that says what was wrong and what to do.

AddNormError
├── ArtifactError        an artifact is missing, half-written, altered or of an unknown format
├── DeviceError          the execution provider that was asked for cannot run
├── DataError            a data file or a run directory cannot be used (training side)
├── ExportError          an exported graph does not agree with the model it came from
├── StateError           a file of statistics cannot be read, or belongs to another model
├── SettingError         a setting names what cannot be used
├── Unauthorized         an API key is needed, and none that is known was shown
├── Forbidden            what this key, this web page or anybody may not do; `code` names the reason
├── ListenError          the address is taken, or is not one of this machine
├── UnknownLayer         no normalization layer has that name
├── UnknownModel         no model of that name or version is loaded
├── Unsupported          a part of a protocol that this service does not have
├── Unavailable          the service is stopping, or its model is not loaded
├── Overloaded           more waits than is accepted; `retry_after` says for how long (seconds)
├── DeadlineExceeded     a request's time was up before its answer was ready
├── TooLarge             a body of more bytes than are allowed
└── InvalidInput         a request that cannot be answered; `code` names the reason

None of them knows HTTP; `service.http.errors` maps them to statuses. All can be handed from process to process.
"""

RETRIES = 8  # of what fails for a passing reason


class AddNormError(Exception):
    """Base of all errors that a user can act on.

    Attributes:
        retries: how often it is worth trying again, where nothing has changed since.
    """

    code = "error"
    retries = 0


class ArtifactError(AddNormError):
    code = "artifact_error"


class DeviceError(AddNormError):
    code = "device_error"


class DataError(AddNormError):
    code = "data_error"


class ExportError(AddNormError):
    code = "export_error"


class StateError(AddNormError):
    code = "state_error"


class SettingError(AddNormError):
    code = "setting_error"


class Unauthorized(AddNormError):
    code = "unauthorized"


class Forbidden(AddNormError):
    """What this key, this web page or anybody may not do.

    Args:
        code: machine-readable reason, for example `foreign_origin`.
        message: one sentence: what is not allowed, what to do.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code

    def __reduce__(self) -> tuple[type["Forbidden"], tuple[str, str]]:
        return type(self), (self.code, str(self))


class ListenError(AddNormError):
    code = "listen_error"


class UnknownLayer(AddNormError):
    code = "unknown_layer"


class UnknownModel(AddNormError):
    code = "unknown_model"


class Unsupported(AddNormError):
    code = "unsupported"


class Unavailable(AddNormError):
    code = "unavailable"
    retries = RETRIES


class Overloaded(AddNormError):
    """More waits than the service accepts.

    Args:
        message: one sentence: what is full, when to come back.
        retry_after: seconds until what waits now will have been answered, as fast as it goes at present.
    """

    code = "overloaded"

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[type["Overloaded"], tuple[str, float]]:
        return type(self), (str(self), self.retry_after)


class DeadlineExceeded(AddNormError):
    code = "deadline_exceeded"


class InvalidInput(AddNormError):
    """A request that cannot be answered.

    Args:
        code: machine-readable reason, for example `too_many_rows`.
        message: one sentence: what was wrong, what is allowed.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code

    def about(self, name: str) -> "InvalidInput":
        """The same about what this client calls `name`, and the encoders call inputs."""
        message = str(self)
        return InvalidInput(
            self.code, name + message.removeprefix("inputs") if message.startswith("inputs") else message
        )

    def __reduce__(self) -> tuple[type["InvalidInput"], tuple[str, str]]:
        return type(self), (self.code, str(self))


class TooLarge(AddNormError):
    """A body of more than `max_bytes`."""

    code = "body_too_large"

    def __init__(self, max_bytes: int) -> None:
        super().__init__(f"The body is larger than the {max_bytes} bytes that are allowed: send fewer inputs at once.")
        self.max_bytes = max_bytes

    def __reduce__(self) -> tuple[type["TooLarge"], tuple[int]]:
        return type(self), (self.max_bytes,)
