import { Inject, Injectable } from '@nestjs/common';
import { Accounts, type Caller } from '@app/accounts';
import { Quotas } from '@app/read-model';
import { WebhookEndpoints } from '@app/webhooks';
import { RequestLimits } from '../http/request-limits';
import { presentMe, type MeSchema } from './me.dto';

/** Tells a caller who he is: his team, key, permissions, usage and limits. */
@Injectable()
export class Me {
  constructor(
    private readonly accounts: Accounts,
    private readonly quotas: Quotas,
    @Inject(WebhookEndpoints) private readonly webhooks: Pick<WebhookEndpoints, 'useOf'>,
    @Inject(RequestLimits) private readonly limits: RequestLimits,
  ) {}

  async of({ team, keyId }: Caller): Promise<MeSchema> {
    const [own, key, uses, webhooks] = await Promise.all([
      this.accounts.team(team),
      this.accounts.keyOf(team, keyId),
      this.quotas.of(team),
      this.webhooks.useOf(team),
    ]);
    return presentMe(own, key, { ...uses, webhooks }, this.limits.perMinute.key);
  }
}
