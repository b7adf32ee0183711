import { Body, Controller, Delete, Get, Param, Post, Req } from '@nestjs/common';
import { ApiBearerAuth, ApiOperation, ApiParam, ApiTags } from '@nestjs/swagger';
import { Accounts, invitationTasks, Invitations, type Caller, type InvitationTask } from '@app/accounts';
import { TaskList } from '@app/tasks';
import type { FastifyRequest } from 'fastify';
import { CurrentCaller, Requires } from '../http/api-key.guard';
import { ApiErrors, ApiSuccess } from '../http/openapi';
import { success } from '../http/success';
import * as examples from './examples';
import { InvitationEnvelope, InviteOwnerRequest, OwnersEnvelope, presentInvitation, presentOwners } from './owners.dto';

const emailParam = { name: 'email', example: 'grace@acme.com', description: 'In any case, percent-encoded.' } as const;

/** Manages the owners of the caller's team. The notifier mails the invitations. */
@ApiTags('owners')
@ApiBearerAuth('apiKey')
@Controller('/api/v1/owners')
export class OwnersController {
  constructor(
    private readonly accounts: Accounts,
    private readonly invitations: Invitations,
    private readonly tasks: TaskList,
  ) {}

  @Get()
  @Requires('owner.read')
  @ApiOperation({ operationId: 'listOwners', summary: 'List the owners of your team, and who is invited' })
  @ApiSuccess(200, 'The owners, and the open invitations.', OwnersEnvelope, examples.owners)
  @ApiErrors()
  async list(@CurrentCaller() { team }: Caller, @Req() { id: requestId }: FastifyRequest): Promise<object> {
    return success(await this.ownersOf(team), requestId);
  }

  @Post('invitations')
  @Requires('owner.create')
  @ApiOperation({
    operationId: 'inviteOwner',
    summary: 'Invite somebody to be an owner',
    description:
      'By a mail within moments, whose token accepts the invitation within seven days. Invited again, an address gets another mail, and only the newest token is valid. A team has 20 open invitations at most.',
  })
  @ApiSuccess(201, 'Invited; the mail is on its way.', InvitationEnvelope, examples.invitation)
  @ApiErrors(
    'missing_parameter',
    'conflict',
    'limit_exceeded',
    'payload_too_large',
    'unsupported_media_type',
    'validation_error',
  )
  async invite(
    @Body() { email }: InviteOwnerRequest,
    @CurrentCaller() { team }: Caller,
    @Req() { id: requestId }: FastifyRequest,
  ): Promise<object> {
    const invitation = await this.invitations.invite(team, email);
    const task: InvitationTask & { readonly requestId: string } = { team, email: invitation.email, requestId };
    // The request makes it another task than the one before, so that an address that is invited again is mailed again.
    await this.tasks.put(invitationTasks, `${team} ${invitation.email.toLowerCase()}`, 'Invite', task);
    return success(presentInvitation(invitation), requestId);
  }

  @Delete('invitations/:email')
  @Requires('owner.delete')
  @ApiOperation({ operationId: 'withdrawInvitation', summary: 'Withdraw an invitation' })
  @ApiParam(emailParam)
  @ApiSuccess(200, 'Withdrawn: its token is no longer valid.', InvitationEnvelope, examples.invitation)
  @ApiErrors('not_found', 'payload_too_large', 'unsupported_media_type')
  async withdraw(
    @Param('email') email: string,
    @CurrentCaller() { team }: Caller,
    @Req() { id: requestId }: FastifyRequest,
  ): Promise<object> {
    return success(presentInvitation(await this.invitations.withdraw(team, storable(email))), requestId);
  }

  @Delete(':email')
  @Requires('owner.delete')
  @ApiOperation({
    operationId: 'removeOwner',
    summary: 'Remove an owner',
    description: 'The last one stays: somebody has to get the notices of the team.',
  })
  @ApiParam(emailParam)
  @ApiSuccess(200, 'Removed; these remain.', OwnersEnvelope, examples.owners)
  @ApiErrors('not_found', 'conflict', 'payload_too_large', 'unsupported_media_type')
  async remove(
    @Param('email') email: string,
    @CurrentCaller() { team }: Caller,
    @Req() { id: requestId }: FastifyRequest,
  ): Promise<object> {
    await this.accounts.removeOwner(team, storable(email));
    return success(await this.ownersOf(team), requestId);
  }

  private async ownersOf(team: string): Promise<ReturnType<typeof presentOwners>> {
    return presentOwners(await this.accounts.owners(team), await this.invitations.list(team));
  }
}

/** Gives an address that the database can be asked for: PostgreSQL text cannot contain NUL. */
const storable = (email: string): string => email.replaceAll('\0', '').slice(0, 320);
