import { Injectable } from '@nestjs/common';
import { DomainsReadModel } from '@app/read-model';
import type { SealedSecret } from '@app/secret-keys';
import {
  checkedUrl,
  WebhookEndpoints,
  webhookNotFound,
  type TargetOptions,
  type Webhook,
  type WebhookChoices,
  type WebhookWithSecret,
} from '@app/webhooks';
import { ApiError } from '../http/api-error';
import { success } from '../http/success';
import type { Answer } from '../idempotency/idempotency.service';
import { choicesOf, presentWebhook, webhookIdForm, type UpdateWebhookRequest } from './webhooks.dto';

/** Does what customers ask for their endpoints. The app webhooks delivers to them. */
@Injectable()
export class Webhooks {
  /** @param targets which URLs may be delivered to. */
  constructor(
    private readonly endpoints: WebhookEndpoints,
    private readonly domains: DomainsReadModel,
    private readonly targets: TargetOptions,
  ) {}

  /**
   * Gives what a request chooses of an endpoint, once all of it is possible; what is absent is undefined.
   *
   * @throws {TargetRefused} for its URL.
   * @throws {ApiError} `invalid_parameter`, and `not_found` for a domain that is not the team's.
   */
  async checked(body: UpdateWebhookRequest, team: string): Promise<Partial<WebhookChoices>> {
    const choices = choicesOf(body);
    await this.assertDomains(choices.domains, team);
    return { ...choices, url: body.url === undefined ? undefined : checkedUrl(body.url, this.targets).href };
  }

  /**
   * Creates an endpoint. With the id of one that was created before, gives that one.
   *
   * @throws {WebhookRuleBroken}
   */
  create(id: string, team: string, choices: Partial<WebhookChoices>): Promise<WebhookWithSecret> {
    const { url, description = null, eventTypes = null, domains = null, enabled = true } = choices;
    return this.endpoints.create(id, team, { url: url!, description, eventTypes, domains, enabled });
  }

  page(team: string, limit: number, before: string | undefined): Promise<Webhook[]> {
    return this.endpoints.page(team, limit, before);
  }

  /** @throws {WebhookRuleBroken} `webhook_not_found` */
  async find(id: string, team: string): Promise<Webhook> {
    // An id of another form cannot exist. The database never sees it, since PostgreSQL text cannot contain NUL.
    const webhook = webhookIdForm.test(id) ? await this.endpoints.find(id, team) : undefined;
    if (!webhook) throw webhookNotFound(id);
    return webhook;
  }

  /**
   * Gives an endpoint to which something is to be sent.
   *
   * @throws {WebhookRuleBroken} `webhook_not_found`
   * @throws {ApiError} `conflict` for one that is disabled.
   */
  async findEnabled(id: string, team: string): Promise<Webhook> {
    const webhook = await this.find(id, team);
    if (!webhook.enabled)
      throw new ApiError('conflict', `${id} is disabled, so nothing is sent to it. Enable it first.`);
    return webhook;
  }

  /** @throws {WebhookRuleBroken} `webhook_not_found`, `webhook_has_changed` */
  update(id: string, team: string, changes: Partial<WebhookChoices>, expected?: number): Promise<Webhook> {
    return this.endpoints.update(id, team, changes, expected);
  }

  /** @throws {WebhookRuleBroken} `webhook_not_found`, `webhook_has_changed` */
  remove(id: string, team: string, expected?: number): Promise<void> {
    return this.endpoints.remove(id, team, expected);
  }

  /**
   * Gives an endpoint a new secret, once for each id of a rotation.
   *
   * @throws {WebhookRuleBroken} `webhook_not_found`, `no_secret_keys`
   */
  rotate(id: string, team: string, rotation: string, overlapSeconds: number): Promise<WebhookWithSecret> {
    return this.endpoints.rotate(id, team, rotation, overlapSeconds * 1_000);
  }

  /**
   * Makes the body of an answer that has a secret, in which the secret is encrypted, as it is kept for a repeated
   * request.
   */
  sealed({ webhook, secret }: WebhookWithSecret, requestId: string): object {
    return success({ ...presentWebhook(webhook), secret: sealedText(secret) }, requestId);
  }

  /** Decrypts the secret of an answer that `sealed` has made, for the customer. @throws {SecretUnreadable} */
  revealed<Kept extends Answer>(answer: Kept): Kept {
    const { data } = answer.body as { data: { id: string; secret: string } };
    const secret = this.endpoints.open(data.id, sealedOf(data.secret));
    return { ...answer, body: { ...answer.body, data: { ...data, secret } } };
  }

  /** @throws {ApiError} `not_found`, which names the domains that are not the team's. */
  async assertDomains(ids: readonly string[] | null | undefined, team: string): Promise<void> {
    if (!ids) return;
    const own = new Set(await this.domains.thoseOf(ids, team));
    const errors = ids.flatMap((id, index) =>
      own.has(id) ? [] : [{ code: 'not_found', param: `domains.${index}`, message: `There is no domain ${id}.` }],
    );
    if (errors.length > 0) throw new ApiError('not_found', errors[0]!.message, { param: 'domains', errors });
  }
}

const sealedText = ({ sealed, keyId }: SealedSecret): string => `${keyId} ${sealed.toString('base64')}`;

function sealedOf(text: string): SealedSecret {
  const [keyId, sealed] = text.split(' ') as [string, string];
  return { keyId, sealed: Buffer.from(sealed, 'base64') };
}
