import { setTimeout as delay } from 'node:timers/promises';
import { Injectable, type BeforeApplicationShutdown } from '@nestjs/common';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import { Faults, type SesOperation } from './faults';
import { SesRegions } from './ses-regions';
import { SandboxState } from './state';

/** The number of the account that the sandbox's SES is of. */
export const account = '123456789012';

/** The Region of requests that are not signed, such as those of people. */
export const defaultRegion = 'eu-west-1';

/** Gives the Region of the credential scope: `Credential=<key>/<date>/<region>/ses/aws4_request`. */
const signedRegion = (authorization: string | undefined): string | undefined =>
  /\bCredential=[^/,\s]+\/\d{8}\/([a-z0-9-]{1,63})\//.exec(authorization ?? '')?.[1];

/** An error of the SES API in the form that the SDK reads. */
export class SesError extends Error {
  constructor(
    readonly status: number,
    readonly type: string,
    message: string,
  ) {
    super(message);
  }
}
export const badRequest = (error: z.ZodError) => new SesError(400, 'BadRequestException', z.prettifyError(error));
export const notFound = (message: string) => new SesError(404, 'NotFoundException', message);
export const alreadyExists = (message: string) => new SesError(400, 'AlreadyExistsException', message);

/** Says no as AWS does, with the names of the account and its user. */
const denial = (operation: SesOperation, name: string) =>
  `User: arn:aws:iam::${account}:user/sandbox is not authorized to perform: ses:${operation} on resource: arn:aws:ses:eu-west-1:${account}:identity/${name}`;

/**
 * Answers the operations of the SES v2 API: with what they do, or as the limits of the Region and the faults that are
 * switched on demand.
 *
 * Each Region has identities of its own: that of a request is in its signature (Signature Version 4, credential scope).
 * A request without one means the Region that has the identity, or `eu-west-1`.
 */
@Injectable()
export class SesCalls implements BeforeApplicationShutdown {
  private readonly hung = new Set<FastifyReply>();
  private readonly calls: {
    readonly operation: SesOperation;
    readonly name: string;
    readonly at: string;
    readonly region: string;
    /** Present where the Region was called faster than it may be. */
    readonly throttled?: true;
  }[] = [];

  constructor(
    private readonly state: SandboxState,
    private readonly faults: Faults,
    private readonly regions: SesRegions,
  ) {}

  /** The requests, the oldest first. */
  get all(): readonly object[] {
    return this.calls;
  }

  /** Closes the requests that are left without an answer, which would keep the process from ending. */
  beforeApplicationShutdown(): void {
    for (const reply of this.hung) reply.raw.destroy();
  }

  /** Performs an operation without an answer, so its refusals are ignored. */
  private actUnanswered(act: () => object): void {
    try {
      act();
    } catch (error) {
      if (!(error instanceof SesError)) throw error;
    }
  }

  /**
   * Answers one request.
   *
   * @param name of the identity or the tenant that it is about.
   */
  async play(
    operation: SesOperation,
    name: string,
    { id, headers }: FastifyRequest,
    reply: FastifyReply,
    actIn: (region: string) => object,
  ): Promise<void> {
    const region = signedRegion(headers.authorization) ?? this.regionOf(name) ?? defaultRegion;
    const isSigned = headers.authorization !== undefined;
    const act = () => actIn(region);
    const limits = this.regions.of(region);
    if (isSigned && limits.isAway) {
      reply.hijack();
      reply.raw.destroy();
      return;
    }
    const isThrottled = isSigned && !limits.takesCall(performance.now());
    const at = new Date().toISOString();
    this.calls.push({ operation, name, at, region, ...(isThrottled && { throttled: true }) });
    if (this.calls.length > 10_000) this.calls.shift();
    try {
      if (isThrottled) throw new SesError(429, 'TooManyRequestsException', 'Rate exceeded');
      const fault = this.faults.take('ses', { operation, name: name.toLowerCase() });
      switch (fault?.mode) {
        case 'refuse':
          throw new SesError(400, 'BadRequestException', `Invalid domain name ${name}.`);
        case 'deny':
          throw new SesError(403, 'AccessDeniedException', denial(operation, name));
        case 'full':
          throw new SesError(400, 'LimitExceededException', 'The account may have no more identities.');
        case 'throttle':
          throw new SesError(429, 'TooManyRequestsException', 'Maximum sending rate exceeded.');
        case 'error':
          throw new SesError(500, 'InternalServiceErrorException', 'Internal failure.');
        case 'garbage':
          await reply.status(200).type('text/html').send('<html>this is no answer</html>');
          return;
        case 'hang_after':
          act();
          this.hang(reply);
          return;
        case 'act_late':
          setTimeout(() => this.actUnanswered(act), fault?.afterMs).unref();
          this.hang(reply);
          return;
        case 'hang':
          this.hang(reply);
          return;
        default: {
          const answer = act();
          if (fault) await delay(fault.afterMs);
          await reply.status(200).header('x-amzn-RequestId', id).send(answer);
        }
      }
    } catch (error) {
      if (!(error instanceof SesError)) throw error;
      const { status, type, message } = error;
      await reply.status(status).header('x-amzn-RequestId', id).header('x-amzn-ErrorType', type).send({ message });
    }
  }

  private hang(reply: FastifyReply): void {
    this.hung.add(reply);
    reply.raw.on('close', () => this.hung.delete(reply));
    reply.hijack();
  }

  /** Gives a Region that has an identity. */
  private regionOf(name: string): string | undefined {
    const canonicalName = name.toLowerCase();
    return Object.values(this.state.data.identities).find((each) => each.name === canonicalName)?.region;
  }
}
