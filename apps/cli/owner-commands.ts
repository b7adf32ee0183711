import { Accounts, invitationMail, Invitations } from '@app/accounts';
import { loadSettings, publicUrlOf } from '@app/runtime';
import type { Command } from 'commander';
import { examples, minute, print, table } from './output';
import { send } from './send-mail';
import { withPool } from './with-pool';

/** Adds `sendmux owner …`. */
export function addOwnerCommands(owner: Command): void {
  const team = ['<team>', 'id of the team, as `sendmux team list` shows it'] as const;
  const email = ['<email>', 'address of the owner'] as const;

  owner
    .command('list')
    .description('the owners of a team, and who is invited')
    .argument(...team)
    .addHelpText('after', examples('sendmux owner list team_4kz81mq0xw'))
    .action(async (id: string, _options: object, command: Command) => {
      const [owners, invited] = await withPool(async (pool) => [
        await new Accounts(pool).owners(id),
        await new Invitations(pool).list(id),
      ]);
      print(command, { team: id, owners, invited }, () =>
        table(
          ['OWNER', 'STATE'],
          [
            ...owners.map((address) => [address, 'owner']),
            ...invited.map((each) => [each.email, `invited until ${minute(each.expiresAt)}`]),
          ],
        ),
      );
    });
  owner
    .command('invite')
    .description('mails somebody who becomes an owner by accepting, within 7 days; again replaces the first mail')
    .argument(...team)
    .argument(...email)
    .addHelpText('after', examples('sendmux owner invite team_4kz81mq0xw grace@acme.com'))
    .action(async (id: string, address: string, _options: object, command: Command) => {
      const settings = loadSettings(process.env, ['SMTP_URL', 'NOTIFY_FROM', 'PUBLIC_URL', 'HOST', 'PORT']);
      const invitation = await withPool((pool) => new Invitations(pool).invite(id, address));
      const { email, expiresAt } = invitation;
      try {
        await send(settings, email, invitationMail(invitation, publicUrlOf(settings)));
      } catch (error) {
        throw new Error(
          `${email} is invited, but the mail could not be sent (${(error as Error).message}). Send it again with \`sendmux owner invite ${id} ${email}\`.`,
          { cause: error },
        );
      }
      print(command, { team: id, email, expiresAt }, () => [`${email} is invited until ${minute(expiresAt)}.`]);
    });
  owner
    .command('accept')
    .description('an invitation, by the token of its mail')
    .argument('<token>', 'smx_invite_…')
    .addHelpText('after', examples('sendmux owner accept smx_invite_…'))
    .action(async (token: string, _options: object, command: Command) => {
      const accepted = await withPool((pool) => new Invitations(pool).accept(token));
      print(command, accepted, () => [`${accepted.email} is an owner of ${accepted.team}.`]);
    });
  owner
    .command('withdraw')
    .description('an invitation that nobody has accepted yet')
    .argument(...team)
    .argument(...email)
    .addHelpText('after', examples('sendmux owner withdraw team_4kz81mq0xw grace@acme.com'))
    .action(async (id: string, address: string, _options: object, command: Command) => {
      const withdrawn = await withPool((pool) => new Invitations(pool).withdraw(id, address));
      print(command, withdrawn, () => [`${withdrawn.email} is no longer invited to ${id}.`]);
    });
  owner
    .command('remove')
    .description('an owner; the last one stays')
    .argument(...team)
    .argument(...email)
    .addHelpText('after', examples('sendmux owner remove team_4kz81mq0xw ada@acme.com'))
    .action(async (id: string, address: string, _options: object, command: Command) => {
      const owners = await withPool((pool) => new Accounts(pool).removeOwner(id, address));
      print(command, { team: id, owners }, () => owners);
    });
}
