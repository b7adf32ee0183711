import { Inject, Injectable } from '@nestjs/common';
import { EventLog } from '@app/event-store';
import { teamStreams } from '@app/read-model';
import { parseTime, timeForms } from '@app/runtime';
import { webhookNotFound, WebhookReplays, type WebhookReplay } from '@app/webhooks';
import { Pool } from 'pg';
import { ApiError } from '../http/api-error';
import { replayIdForm, type ReplayRequest } from './replays.dto';
import { Webhooks } from './webhooks.service';

/** Begins and stops what customers want sent once more. The app webhooks feeds and delivers it. */
@Injectable()
export class Replays {
  constructor(
    @Inject(Webhooks) private readonly webhooks: Webhooks,
    private readonly replays: WebhookReplays,
    private readonly log: EventLog,
    @Inject(Pool) private readonly pool: Pool,
  ) {}

  /**
   * Begins a replay. With the id of one that was begun before, gives that one.
   *
   * @throws {WebhookRuleBroken} `webhook_not_found`
   * @throws {ReplayRefused}
   * @throws {ApiError} `invalid_parameter` for its times, also where something of them is in an archive, `not_found`
   * for a domain that is not the team's, and `conflict` for an endpoint that is disabled.
   */
  async begin(
    replay: string,
    id: string,
    team: string,
    { from, to, types, domains }: ReplayRequest,
  ): Promise<WebhookReplay> {
    const webhook = await this.webhooks.findEnabled(id, team);
    await this.webhooks.assertDomains(domains, team);
    const now = new Date();
    const times = { from: timeOf('from', from, now), to: to === undefined ? undefined : timeOf('to', to, now) };
    const spanOf = async (first: Date, end: Date) => {
      const span = await this.log.spanOf(first, end);
      const streams = await teamStreams(this.pool, { team, domains: domains ?? webhook.domains });
      const archived = await this.log.archivedIn(span, { from: first, to: end, streams });
      if (!archived) return span;
      throw new ApiError(
        'invalid_parameter',
        `What happened up to ${archived.toISOString()} to domains and mailboxes that are gone is in our archive, and is not sent again. Begin after that, or name the domains that are there.`,
        { param: 'from' },
      );
    };
    const request = { id: replay, ...times, types, domains: domains ?? undefined };
    const begun = await this.replays.begin(webhook.id, request, spanOf, now);
    if (!begun) throw webhookNotFound(id);
    return begun;
  }

  /** @throws {WebhookRuleBroken} `webhook_not_found` */
  async page(id: string, team: string, limit: number, before: string | undefined): Promise<WebhookReplay[]> {
    const webhook = await this.webhooks.find(id, team);
    return this.replays.page(webhook.id, limit, before);
  }

  /**
   * @throws {WebhookRuleBroken} `webhook_not_found`
   * @throws {ApiError} `not_found`
   */
  async find(id: string, team: string, replay: string): Promise<WebhookReplay> {
    const webhook = await this.webhooks.find(id, team);
    const found = replayIdForm.test(replay) ? await this.replays.find(webhook.id, replay) : undefined;
    if (!found) throw notFound(replay);
    return found;
  }

  /**
   * Stops a replay with what of it waits. One that has ended stays as it is.
   *
   * @throws {WebhookRuleBroken} `webhook_not_found`
   * @throws {ApiError} `not_found`
   */
  async stop(id: string, team: string, replay: string): Promise<WebhookReplay> {
    const { webhook, id: known } = await this.find(id, team, replay);
    const stopped = await this.replays.stop(webhook, known);
    if (!stopped) throw notFound(replay);
    return stopped;
  }
}

/** @throws {ApiError} `invalid_parameter` for what is no time. */
function timeOf(param: 'from' | 'to', text: string, now: Date): Date {
  const time = parseTime(text, now);
  if (!time) throw new ApiError('invalid_parameter', `"${param}" must be ${timeForms}.`, { param });
  return time;
}

const notFound = (id: string) => new ApiError('not_found', `There is no replay ${id.slice(0, 100)}.`);
