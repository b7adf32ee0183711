import { isNativeError } from 'node:util/types';

/** Thrown when the brokers do not answer, or not yet, so that trying again may help. */
export class KafkaAway extends Error {
  override readonly name = 'KafkaAway';
}

/**
 * Thrown when the brokers refuse a record for what it is, so that no retry makes them accept it. Nothing of its
 * partition was written by the send; records of other partitions may have been. The publisher must be replaced, since
 * its sequence numbers are no longer those of the brokers.
 */
export class RecordRefused extends Error {
  override readonly name = 'RecordRefused';
  constructor(
    /** The name of the error in the protocol, such as `MESSAGE_TOO_LARGE`. */
    readonly reason: string,
    cause: Error,
  ) {
    super(`Kafka refuses the record: ${reason}, ${cause.message}`, { cause });
  }
}

/** Thrown when no token for the brokers is given to this installation, so that no retry helps. */
export class TokenRefused extends Error {
  override readonly name = 'TokenRefused';
}

/**
 * What `RecordRefused.reason` is for a timestamp too far from the broker's clock (`message.timestamp.after.max.ms`).
 */
export const timestampRefused = 'INVALID_TIMESTAMP';

const refusals: ReadonlySet<string> = new Set([
  timestampRefused,
  'INVALID_RECORD',
  'MESSAGE_TOO_LARGE',
  'RECORD_LIST_TOO_LARGE',
  'UNSUPPORTED_FOR_MESSAGE_FORMAT',
]);

/** Errors that retrying does not repair, such as missing rights and wrong names. */
const lasting: ReadonlySet<string> = new Set([
  'CLUSTER_AUTHORIZATION_FAILED',
  'GROUP_AUTHORIZATION_FAILED',
  'TOPIC_AUTHORIZATION_FAILED',
  'ILLEGAL_SASL_STATE',
  'INVALID_GROUP_ID',
  'INVALID_TOPIC_EXCEPTION',
  'POLICY_VIOLATION',
  'SASL_AUTHENTICATION_FAILED',
  'UNSUPPORTED_SASL_MECHANISM',
  'UNSUPPORTED_VERSION',
]);

/** The errors of a topic that was just created, until every broker has heard of it. */
export const notYetKnown: ReadonlySet<string> = new Set(['UNKNOWN_TOPIC_OR_PARTITION', 'LEADER_NOT_AVAILABLE']);

/**
 * Gives the error that callers of this lib get: `KafkaAway`, `RecordRefused`, or the error itself when retrying does
 * not repair it.
 *
 * @param codeOf gives the name in the protocol of an error of the client library, where it has one; `lasting` for one
 * of the library's own that retrying does not repair.
 */
export function kafkaError(error: unknown, codeOf: (each: Error) => string | undefined): Error {
  const causes = [...causesOf(error)];
  for (const each of causes) {
    const code = codeOf(each) ?? '';
    if (refusals.has(code)) return new RecordRefused(code, each);
    if (code === 'lasting' || lasting.has(code) || each instanceof TokenRefused) return each;
  }
  const [first, last] = [(error as Error).message, causes.at(-1)?.message ?? ''];
  return new KafkaAway(`Kafka: ${first.includes(last) ? first : `${first} (${last})`}`, { cause: error });
}

/** Gives the error, and those that it names as its causes. */
export function* causesOf(error: unknown): Generator<Error> {
  if (!isNativeError(error)) return;
  yield error;
  if ('errors' in error && Array.isArray(error.errors)) for (const each of error.errors) yield* causesOf(each);
  yield* causesOf(error.cause);
}
