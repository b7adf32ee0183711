import { setTimeout as delay } from 'node:timers/promises';
import {
  AlreadyExistsException,
  CreateEmailIdentityCommand,
  DeleteEmailIdentityCommand,
  GetEmailIdentityCommand,
  ListEmailIdentitiesCommand,
  NotFoundException,
  SESv2Client,
  SESv2ServiceException,
  type DkimAttributes,
} from '@aws-sdk/client-sesv2';
import { z } from 'zod';
import { backOffMs } from '@app/runtime';
import { TokenBucket } from './token-bucket';

/** The tag by which an identity is known as ours: its value is the domain's id. */
export const domainIdTag = 'sendmux:domain-id';

/** `DkimAttributes.Status`, in the lower case of our API. */
export type SesStatus = 'pending' | 'success' | 'failed' | 'temporary_failure' | 'not_started';

export interface SesIdentity {
  readonly name: string;
  /** Value of our tag; null when the identity does not carry it. */
  readonly domainId: string | null;
  readonly status: SesStatus;
  /** The three Easy DKIM tokens. */
  readonly tokens: readonly string[];
  /** Zone of the CNAME targets. */
  readonly hostedZone: string;
  readonly region: string;
}

/** SES said no, for good: asking again will not help. */
export class SesRefused extends Error {
  override readonly name = 'SesRefused';
}

/** SES did not answer, or not in a way that can be believed. Asking again may help. */
export class SesUnavailable extends Error {
  override readonly name = 'SesUnavailable';
}

export interface SesOptions {
  readonly region: string;
  /** Absent: the SDK's own. */
  readonly endpoint?: string;
  /** Identity calls of this process; SES allows about one a second. */
  readonly callsPerSecond: number;
  /** A single call that takes longer was not answered, in milliseconds. */
  readonly timeoutMs: number;
}

interface Call {
  /** Gives up waiting: for a turn, for a throttled SES, for an answer. */
  readonly signal?: AbortSignal;
}

const statuses = {
  PENDING: 'pending',
  SUCCESS: 'success',
  FAILED: 'failed',
  TEMPORARY_FAILURE: 'temporary_failure',
  NOT_STARTED: 'not_started',
} as const;
const status = z
  .enum(['PENDING', 'SUCCESS', 'FAILED', 'TEMPORARY_FAILURE', 'NOT_STARTED'])
  .transform((s) => statuses[s]);
const easyDkim = z.object({
  Status: status,
  Tokens: z.array(z.string().regex(/^[a-z0-9]+$/i)).length(3),
  SigningHostedZone: z.string().min(3).default('dkim.amazonses.com'),
});
const page = z.object({
  EmailIdentities: z.array(z.object({ IdentityName: z.string(), VerificationStatus: status })).default([]),
  NextToken: z.string().optional(),
});

/** Refusals are told from troubles by these names; SES gives some of both with status 400. */
const troubles = new Set(['ConcurrentModificationException', 'InternalServiceErrorException', 'RequestTimeout']);
const throttles = new Set(['TooManyRequestsException', 'ThrottlingException', 'Throttling', 'LimitExceeded']);

/**
 * The domain identities of Amazon SES v2, each tagged with the id of the domain that asked for it. Calls wait for their
 * turn and for a throttled SES as long as the caller does.
 *
 * Every method throws `SesUnavailable` when SES gave no answer that can be believed, and `SesRefused` when it said no.
 */
export class SesIdentities {
  private readonly client: SESv2Client;
  private readonly turns: TokenBucket;

  constructor(private readonly options: SesOptions) {
    this.turns = new TokenBucket(options.callsPerSecond);
    const timeout = options.timeoutMs;
    this.client = new SESv2Client({
      region: options.region,
      ...(options.endpoint && { endpoint: options.endpoint }),
      // One mechanism decides about trying again, and it is not the SDK's, which gives up on a throttle.
      maxAttempts: 1,
      requestHandler: {
        connectionTimeout: Math.min(timeout, 3_000),
        requestTimeout: timeout,
        throwOnRequestTimeout: true,
      },
    });
  }

  /**
   * `CreateEmailIdentity` with Easy DKIM and our tag. An identity that is there already is returned as it is, whosever it
   * may be: the tag tells.
   */
  async create(name: string, domainId: string, { signal }: Call = {}): Promise<SesIdentity> {
    const Tags = [{ Key: domainIdTag, Value: domainId }];
    const created = await this.call(signal, async (abortSignal) => {
      try {
        return await this.client.send(new CreateEmailIdentityCommand({ EmailIdentity: name, Tags }), { abortSignal });
      } catch (error) {
        if (error instanceof AlreadyExistsException) return undefined;
        throw error;
      }
    });
    if (created) return this.identity(name, domainId, created.DkimAttributes);
    const existing = await this.get(name, { signal });
    if (!existing) throw new SesUnavailable(`SES has ${name} and has it not: it is changed by somebody else right now`);
    return existing;
  }

  /** `GetEmailIdentity`; null when there is none. */
  async get(name: string, { signal }: Call = {}): Promise<SesIdentity | null> {
    const found = await this.call(signal, async (abortSignal) => {
      try {
        return await this.client.send(new GetEmailIdentityCommand({ EmailIdentity: name }), { abortSignal });
      } catch (error) {
        if (error instanceof NotFoundException) return null;
        throw error;
      }
    });
    if (!found) return null;
    const tag = found.Tags?.find(({ Key }) => Key === domainIdTag);
    return this.identity(name, tag?.Value ?? null, found.DkimAttributes);
  }

  /** `DeleteEmailIdentity`; one that is not there is deleted. */
  async delete(name: string, { signal }: Call = {}): Promise<void> {
    await this.call(signal, async (abortSignal) => {
      try {
        await this.client.send(new DeleteEmailIdentityCommand({ EmailIdentity: name }), { abortSignal });
      } catch (error) {
        if (!(error instanceof NotFoundException)) throw error;
      }
    });
  }

  /** `ListEmailIdentities`: each identity of the account with its status, a thousand a call. */
  async *list({ signal }: Call = {}): AsyncGenerator<{ name: string; status: SesStatus }, void> {
    let NextToken: string | undefined;
    do {
      const answer = await this.call(signal, (abortSignal) =>
        this.client.send(new ListEmailIdentitiesCommand({ PageSize: 1_000, NextToken }), { abortSignal }),
      );
      const parsed = page.safeParse(answer);
      if (!parsed.success) throw new SesUnavailable('SES answered with a page that cannot be read');
      for (const { IdentityName, VerificationStatus } of parsed.data.EmailIdentities)
        yield { name: IdentityName, status: VerificationStatus };
      NextToken = parsed.data.NextToken;
    } while (NextToken);
  }

  close(): void {
    this.client.destroy();
  }

  private identity(name: string, domainId: string | null, attributes: DkimAttributes | undefined): SesIdentity {
    const parsed = easyDkim.safeParse(attributes);
    if (!parsed.success) throw new SesUnavailable(`SES answered for ${name} without three DKIM tokens and a status`);
    const { Status, Tokens, SigningHostedZone } = parsed.data;
    return {
      name,
      domainId,
      status: Status,
      tokens: Tokens,
      hostedZone: SigningHostedZone,
      region: this.options.region,
    };
  }

  /** A throttled call is made again for as long as the caller waits; any other trouble is the caller's to repeat. */
  private async call<T>(signal: AbortSignal | undefined, send: (abortSignal: AbortSignal) => Promise<T>): Promise<T> {
    const late = () => AbortSignal.timeout(this.options.timeoutMs);
    try {
      for (let throttled = 1; ; throttled++) {
        await this.turns.take(signal);
        try {
          return await send(signal ? AbortSignal.any([signal, late()]) : late());
        } catch (error) {
          if (!throttles.has((error as Error).name)) throw error;
          await delay(backOffMs({ baseMs: 500, capMs: 8_000 }, throttled), undefined, { signal });
        }
      }
    } catch (error) {
      throw this.translate(error as Error);
    }
  }

  private translate(error: Error): Error {
    if (error instanceof SESv2ServiceException) {
      const { httpStatusCode = 500 } = error.$metadata;
      const said = `SES: ${error.message || error.name}`;
      const refused = httpStatusCode >= 400 && httpStatusCode < 500 && !troubles.has(error.name) && modelled(error);
      return refused ? new SesRefused(said, { cause: error }) : new SesUnavailable(said, { cause: error });
    }
    return new SesUnavailable(`SES gave no answer (${error.message})`, { cause: error });
  }
}

/** An error of SES's own, not one that the SDK made of an answer it could not read. */
const modelled = (error: SESv2ServiceException): boolean =>
  error.name !== 'Error' && error.name !== 'UnknownError' && error.name !== 'SyntaxError';
