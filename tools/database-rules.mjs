import { ESLintUtils } from '@typescript-eslint/utils';

const messages = {
  connect:
    'Take a connection by withClient or inTransaction of @app/database: they listen to its errors and give it back.',
  open: 'Open a pool or a connection by openPool or openClient of @app/database: their connections may break at any time.',
};

/** Whether a declaration belongs to the types of the driver: `pg` and its pool. */
const isOfDriver = (declaration) =>
  /\/node_modules\/(@types\/pg|pg-pool|@types\/pg-pool)\//.test(declaration.getSourceFile().fileName);

const isClass = (symbol, names) =>
  symbol !== undefined && names.includes(symbol.name) && (symbol.declarations ?? []).some(isOfDriver);

/** Forbids connections to PostgreSQL other than those of `libs/database`. It goes by types, so names do not matter. */
export const oneWayToTheDatabase = {
  meta: { type: 'problem', schema: [], messages },
  create(context) {
    const services = ESLintUtils.getParserServices(context);
    const symbolOf = (node) => services.getSymbolAtLocation(node);
    return {
      // Both a call and a reference to the method are reported.
      MemberExpression(node) {
        if (node.property.name !== 'connect') return;
        const isPools = (symbolOf(node.property)?.declarations ?? []).some(
          (declaration) => isOfDriver(declaration) && declaration.parent.name?.text === 'Pool',
        );
        if (isPools) context.report({ node, messageId: 'connect' });
      },
      NewExpression(node) {
        if (isClass(services.getTypeAtLocation(node).symbol, ['Pool', 'Client']))
          context.report({ node, messageId: 'open' });
      },
    };
  },
};
