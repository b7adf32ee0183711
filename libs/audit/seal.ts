import { createHash, createPrivateKey, createPublicKey, sign, verify, type KeyObject } from 'node:crypto';
import { readFileSync } from 'node:fs';

/** The statement that a seal makes about the log. */
export interface Statement {
  /** Identifies the log for ever, so that the seals of another log cannot be passed off as this one's. */
  readonly log: string;
  /** The epoch of the log in which it was made: 1 until the log is restored. */
  readonly epoch: number;
  /** The number of the seal, from 1 and without gaps. */
  readonly number: number;
  /** SHA-256 of the statement of the seal before it, in hex; zeros for the first. */
  readonly previous: string;
  /** How many events it covers: all with a position above `after`, up to `upTo`. */
  readonly events: number;
  readonly after: number;
  readonly upTo: number;
  /** Merkle root over the hashes of these events in the order of their positions, in hex (RFC 9162 section 2.1.1). */
  readonly root: string;
  /** ISO 8601, UTC. */
  readonly time: string;
}

/** A seal is a signed statement, as it is stored and published. */
export interface Seal {
  /** The `statementText` of the statement; the signature is over these octets. */
  readonly statement: string;
  /** The id of the public key, as `keyIdOf` gives it. */
  readonly signer: string;
  /** Ed25519 (RFC 8032), base64. */
  readonly signature: string;
}

export const nothingBefore = '0'.repeat(64);

/**
 * Writes a statement as lines of text, each with its newline, so that any tool can read and hash them: eight in the
 * first epoch, and nine in every other.
 */
export const statementText = ({ log, epoch, number, previous, events, after, upTo, root, time }: Statement): string =>
  [
    epoch === 1 ? 'sendmux-seal/1' : 'sendmux-seal/2',
    `log ${log}`,
    ...(epoch === 1 ? [] : [`epoch ${epoch}`]),
    `number ${number}`,
    `previous ${previous}`,
    `events ${events}`,
    `positions ${after} ${upTo}`,
    `root ${root}`,
    `time ${time}`,
    '',
  ].join('\n');

const form =
  /^sendmux-seal\/(?:1\nlog (\w{1,64})|2\nlog (\w{1,64})\nepoch (\d{1,16}))\nnumber (\d{1,10})\nprevious ([0-9a-f]{64})\nevents (\d{1,10})\npositions (\d{1,16}) (\d{1,16})\nroot ([0-9a-f]{64})\ntime (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)\n$/;

/** Reads a statement; undefined when the text is none. */
export function readStatement(text: string): Statement | undefined {
  const [, first, later, epoch, number, previous, events, after, upTo, root, time] = form.exec(text) ?? [];
  if (time === undefined) return undefined;
  return {
    log: (first ?? later)!,
    epoch: Number(epoch ?? 1),
    previous: previous!,
    root: root!,
    time,
    number: Number(number),
    events: Number(events),
    after: Number(after),
    upTo: Number(upTo),
  };
}

export const hashOfStatement = (text: string): string => createHash('sha256').update(text).digest('hex');

/** Gives the first 16 hex digits of the SHA-256 of the key's SubjectPublicKeyInfo (DER). */
export const keyIdOf = (key: KeyObject): string =>
  createHash('sha256')
    .update(key.export({ type: 'spki', format: 'der' }))
    .digest('hex')
    .slice(0, 16);

/** Thrown when a file cannot be read as a key. */
export class KeyUnusable extends Error {
  override readonly name = 'KeyUnusable';
}

/** Signs statements. */
export class SealingKey {
  readonly id: string;
  readonly publicKey: KeyObject;

  constructor(private readonly key: KeyObject) {
    this.publicKey = createPublicKey(key);
    this.id = keyIdOf(this.publicKey);
  }

  /**
   * @param file an Ed25519 private key, PEM (PKCS #8), as `openssl genpkey -algorithm ed25519` makes it.
   * @throws {KeyUnusable}
   */
  static read(file: string): SealingKey {
    return new SealingKey(
      readingKey(file, 'an Ed25519 private key in PEM: openssl genpkey -algorithm ed25519', (pem) => {
        const key = createPrivateKey(pem);
        return key.asymmetricKeyType === 'ed25519' ? key : undefined;
      }),
    );
  }

  seal(statement: Statement): Seal {
    return this.signText(statementText(statement));
  }

  /** Signs the text of a statement. */
  signText(text: string): Seal {
    return { statement: text, signer: this.id, signature: sign(null, Buffer.from(text), this.key).toString('base64') };
  }
}

/** The public keys whose signatures count, by their ids. */
export type TrustedKeys = ReadonlyMap<string, KeyObject>;

export const trusting = (...keys: KeyObject[]): TrustedKeys => new Map(keys.map((key) => [keyIdOf(key), key]));

/**
 * Reads trusted keys from a file.
 *
 * @param file public keys in PEM, one after the other (a private key counts as its public one).
 * @throws {KeyUnusable}
 */
export function readTrustedKeys(file: string): TrustedKeys {
  return readingKey(file, 'Ed25519 public keys in PEM: openssl pkey -in key.pem -pubout', (text) => {
    const pems = text.match(/-----BEGIN ([A-Z ]+)-----[^-]+-----END \1-----/g) ?? [];
    const keys = pems.map((pem) => createPublicKey(pem));
    return keys.length > 0 && keys.every(({ asymmetricKeyType }) => asymmetricKeyType === 'ed25519')
      ? trusting(...keys)
      : undefined;
  });
}

function readingKey<T>(file: string, expected: string, read: (pem: string) => T | undefined): T {
  let cause: unknown;
  try {
    const found = read(readFileSync(file, 'utf8'));
    if (found) return found;
  } catch (error) {
    cause = error;
  }
  const why = (cause as NodeJS.ErrnoException | undefined)?.code === 'ENOENT' ? 'is not there' : 'cannot be used';
  throw new KeyUnusable(`${file} ${why}: expected ${expected}`, { cause });
}

/** Tells whether a trusted key has signed the statement. */
export function isSigned({ statement, signer, signature }: Seal, trusted: TrustedKeys): boolean {
  const publicKey = trusted.get(signer);
  const octets = Buffer.from(signature, 'base64');
  return !!publicKey && octets.length === 64 && verify(null, Buffer.from(statement), publicKey, octets);
}
